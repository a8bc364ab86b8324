"""Served int8 against float: a 4-layer encoder (width 256), batch 8, length 128, and a single row by a large matrix.

python benchmarks/inference.py
"""

from collections.abc import Callable
from typing import Any

import jax
from shared.encoder import encoder
from shared.verdict import report

import qat
from qat.runtime import medians

RECIPES = ["w8a8", "w8a8(products=False)", "w8a8_dynamic"]
LARGE = 2048


def main() -> None:
    """Print each recipe's time of one call as a share of the float model's, all measured in turns."""
    model, variables, tokens = encoder(layers=4, batch=8, length=128)
    seconds = _seconds(model.apply, variables, tokens, RECIPES)
    rows = [(f"serve {n} / float", seconds[n] / seconds["float"], 0.5 if n == "w8a8" else None) for n in RECIPES]
    x, w = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(1, LARGE), (LARGE, LARGE)]))
    row = _seconds(lambda w, x: jax.numpy.tanh(x @ w), w, x, ["w8a8"])
    rows.append((f"the same of one row by a {LARGE} x {LARGE} matrix", row["w8a8"] / row["float"], None))
    report(f"inference, float {1e3 * seconds['float']:.1f} ms", rows)


def _seconds(function: Callable[[Any, Any], Any], variables: Any, x: jax.Array, recipes: list[str]) -> dict[str, float]:
    """Of one call in float and served, by recipe."""
    float_function = jax.jit(function)
    calls = {"float": lambda: float_function(variables, x)}
    for name in recipes:
        q = qat.quantize(function, qat.recipe(name))
        int8 = q.convert(variables, q.calibrate(variables, [x]), x)
        calls[name] = lambda q=q, int8=int8: q.serve(int8, x)
    return medians(calls)


if __name__ == "__main__":
    main()
