"""The clip range with the smallest mean squared quantization error."""

import jax.numpy as jnp

from qat.observers import sketch
from qat.observers.observer import Observer, register
from qat.observers.sketch import code_of, least_cost_range


def squared_error(center, count, low, high, steps):
    """Summed squared distance of the values to the codes they are rounded and clipped to."""
    step, code = code_of(center, low, high, steps)
    return jnp.sum(count * (center - (low + code * step)) ** 2)


@register
def mse(candidates: int = 40) -> Observer:
    """Shrinks the range of all values seen by the fraction that minimises the squared error of quantization, out of
    `candidates`, on a streaming histogram (Banner et al. 2019, arXiv 1810.05723)."""
    return Observer(
        init=sketch.empty,
        update=sketch.update,
        range=lambda s, steps, symmetric: least_cost_range(squared_error, s, steps, symmetric, candidates),
    )
