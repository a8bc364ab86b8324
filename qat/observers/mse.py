"""The clip range with the smallest mean squared quantization error."""

import jax.numpy as jnp

from qat.observers import sketch
from qat.observers.observer import Observer, register
from qat.observers.sketch import code_of, least_cost_range


def squared_error(center, count, low, high, steps):
    """Summed squared error of the values against the grid points that they are clipped and rounded to."""
    step, code = code_of(center, low, high, steps)
    return jnp.sum(count * (center - (low + code * step)) ** 2)


@register
def mse(candidates: int = 40) -> Observer:
    """Shrink the observed range to the fraction with the least squared quantization error.

    Tries `candidates` fractions on a streaming histogram (Banner et al. 2019, arXiv 1810.05723).
    """
    return Observer(
        init=sketch.empty,
        update=sketch.update,
        range=lambda s, steps, symmetric: least_cost_range(squared_error, s, steps, symmetric, candidates),
    )
