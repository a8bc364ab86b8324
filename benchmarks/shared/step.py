"""A training step in float and of simulated functions, timed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import optax

import qat
from qat.runtime import keep_freed_memory, medians


def step_rows(
    function: Callable[..., Any],
    variables: Any,
    inputs: tuple[Any, ...],
    labels: jax.Array,
    most: Mapping[str, float | None],
    rounds: int = 15,
) -> list[tuple[str, float, float | None]]:
    """Rows of a report on a classifier's steps: those of the recipes in `most` by the float one, in a plain process and
    in one that keeps freed memory, as a sweep's do; and what that gains the float step."""
    calls = _steps(function, variables, inputs, labels, most)
    plain = medians(calls, rounds)
    keep_freed_memory()
    kept = medians(calls, rounds)
    rows = [
        (f"step {name} / float{how}", seconds[name] / seconds["float"], bound)
        for how, seconds in (("", plain), (", freed memory kept", kept))
        for name, bound in most.items()
    ]
    title = f"float step, freed memory kept / not ({1e3 * plain['float']:.0f} ms)"
    return [*rows, (title, kept["float"] / plain["float"], None)]


def _steps(
    function: Callable[..., Any], variables: Any, inputs: tuple[Any, ...], labels: jax.Array, recipes: Iterable[str]
) -> dict[str, Callable[[], Any]]:
    """Calls that do one step (gradient of the cross-entropy, Adam) of a classifier: `float`, and one by recipe."""
    adam = optax.adam(1e-4)

    def step(forward: Callable[[Any, Any], Any], start: Any, state: Any) -> Callable[[], Any]:
        def loss(trained: Any, state: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(forward(trained, state), labels).mean()

        @jax.jit
        def run(trained: Any, moments: Any, state: Any) -> Any:
            updates, moments = adam.update(jax.grad(loss)(trained, state), moments)
            return optax.apply_updates(trained, updates), moments

        moments = adam.init(start)
        return lambda: run(start, moments, state)

    start = {"variables": variables, "learned": {}}
    calls = {"float": step(lambda t, _: function(t["variables"], *inputs), start, None)}
    for name in recipes:
        q = qat.quantize(function, qat.recipe(name))
        state = q.calibrate(variables, [inputs])
        start = {"variables": variables, "learned": state.learned}
        calls[name] = step(
            lambda t, s, q=q: q.simulate(t["variables"], replace(s, learned=t["learned"]), *inputs), start, state
        )
    return calls
