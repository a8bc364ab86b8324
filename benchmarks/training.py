"""A training step of the simulated function against the float one: a 4-layer encoder (width 256), batch 16, length 64.

python benchmarks/training.py
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from shared.encoder import encoder
from shared.verdict import report

import qat
from qat.latency import medians

RECIPES = ["w8a8", "w8a8(products=False)", "w4a4(quantizer='lsq')"]


def main() -> None:
    """Print the time of a step (gradient and Adam) by recipe as a share of the float step's, all measured in turns."""
    model, variables, tokens = encoder(layers=4, batch=16, length=64)
    labels = jnp.zeros(tokens.shape[0], jnp.int32)
    adam = optax.adam(1e-4)

    def step(forward: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        def loss(trained: Any, state: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(forward(trained, state), labels).mean()

        @jax.jit
        def run(trained: Any, moments: Any, state: Any) -> Any:
            updates, moments = adam.update(jax.grad(loss)(trained, state), moments)
            return optax.apply_updates(trained, updates), moments

        return run

    start = {"variables": variables, "learned": {}}
    calls = {"float": _call(step(lambda t, _: model.apply(t["variables"], tokens)), start, adam.init(start), None)}
    for name in RECIPES:
        q = qat.quantize(model.apply, qat.recipe(name))
        state = q.calibrate(variables, [tokens])
        start = {"variables": variables, "learned": state.learned}
        run = step(lambda t, s, q=q: q.simulate(t["variables"], replace(s, learned=t["learned"]), tokens))
        calls[name] = _call(run, start, adam.init(start), state)
    seconds = medians(calls, rounds=15)
    rows = [(f"step {n} / float", seconds[n] / seconds["float"], 0.9 if n == "w8a8" else None) for n in RECIPES]
    report(f"training step, float {1e3 * seconds['float']:.1f} ms", rows)


def _call(run: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: run(*args)


if __name__ == "__main__":
    main()
