"""A training step of the simulated function against the float one: a 4-layer encoder (width 256), batch 16, length 64.

python benchmarks/training.py
"""

import jax.numpy as jnp
from shared.encoder import encoder
from shared.step import step_rows
from shared.verdict import report

MOST = {"w8a8": 0.9, "w8a8(products=False)": None, "w4a4(quantizer='lsq')": None}


def main() -> None:
    """Print the time of a step (gradient and Adam) by recipe as a share of the float step's, all measured in turns."""
    model, variables, tokens = encoder(layers=4, batch=16, length=64)
    labels = jnp.zeros(tokens.shape[0], jnp.int32)
    report("training step", step_rows(model.apply, variables, (tokens,), labels, MOST))


if __name__ == "__main__":
    main()
