"""A training step in float and of simulated functions, as calls to be timed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import optax

import qat


def steps(
    function: Callable[..., Any], variables: Any, inputs: tuple[Any, ...], labels: jax.Array, recipes: Sequence[str]
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
