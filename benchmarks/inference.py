"""Served int8 against float, and calibration against float: a 4-layer encoder (width 256), batch 8, length 128.

python benchmarks/inference.py
"""

import jax
from shared.encoder import encoder
from shared.verdict import report

import qat
from qat.latency import medians

RECIPES = ["w8a8", "w8a8(products=False)", "w8a8_dynamic"]


def main() -> None:
    """Print each recipe's time of one call as a share of the float model's, all measured in turns."""
    model, variables, tokens = encoder(layers=4, batch=8, length=128)
    float_model = jax.jit(model.apply)
    calls = {"float": lambda: float_model(variables, tokens)}
    for name in RECIPES:
        q = qat.quantize(model.apply, qat.recipe(name))
        int8 = q.convert(variables, q.calibrate(variables, [tokens]), tokens)
        calls[name] = lambda q=q, int8=int8: q.serve(int8, tokens)
    seconds = medians(calls)
    rows = [(f"serve {n} / float", seconds[n] / seconds["float"], 0.5 if n == "w8a8" else None) for n in RECIPES]
    report(f"inference, float {1e3 * seconds['float']:.1f} ms", rows)


if __name__ == "__main__":
    main()
