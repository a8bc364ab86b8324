"""A training step of the simulated function against the float one: a 4-layer encoder (width 256), batch 16, length 64.

python benchmarks/training.py
"""

import jax.numpy as jnp
from shared.encoder import encoder
from shared.step import steps
from shared.verdict import report

from qat.latency import medians
from qat.memory import keep_freed_memory

RECIPES = ["w8a8", "w8a8(products=False)", "w4a4(quantizer='lsq')"]


def main() -> None:
    """Print the time of a step (gradient and Adam) by recipe as a share of the float step's, all measured in turns."""
    keep_freed_memory()  # as a sweep does
    model, variables, tokens = encoder(layers=4, batch=16, length=64)
    labels = jnp.zeros(tokens.shape[0], jnp.int32)
    seconds = medians(steps(model.apply, variables, (tokens,), labels, RECIPES), rounds=15)
    rows = [(f"step {n} / float", seconds[n] / seconds["float"], 0.9 if n == "w8a8" else None) for n in RECIPES]
    report(f"training step, float {1e3 * seconds['float']:.1f} ms", rows)


if __name__ == "__main__":
    main()
