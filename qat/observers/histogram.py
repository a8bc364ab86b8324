"""The clip range whose quantized distribution is closest to the observed one (entropy calibration)."""

import jax
import jax.numpy as jnp

from qat.observers import sketch
from qat.observers.observer import Observer, register
from qat.observers.sketch import code_of, least_cost_range

MOST_CODES = 256


def divergence(center, count, low, high, steps):
    """Kullback-Leibler divergence of the clipped histogram from its quantized one, each code's mass even over its bins.

    The mass beyond a bound goes to the outermost bin within it; a code that holds only such mass has a high cost.
    """
    _, code = code_of(center, low, high, steps)
    code = code.astype(jnp.int32)
    inside = (center >= low) & (center <= high)

    def per_code(values):
        return jax.ops.segment_sum(values, code, MOST_CODES)[code]

    within = jnp.where(inside, count, 0.0)
    clipped = within + _outside(count, inside, center, low, high)
    occupied = clipped > 0
    uniform = jnp.where(occupied, per_code(within) / jnp.maximum(per_code(occupied.astype(jnp.float32)), 1.0), 0.0)
    p = clipped / jnp.maximum(jnp.sum(clipped), 1.0)
    q = uniform / jnp.maximum(jnp.sum(uniform), 1.0)
    return jnp.sum(jnp.where(p > 0, p * jnp.log(p / jnp.maximum(q, 1e-12)), 0.0))


def _outside(count, inside, center, low, high):
    """The mass beyond each bound, moved to the outermost bin within it."""
    bins = jnp.arange(center.size)
    first, last = jnp.argmax(inside), center.size - 1 - jnp.argmax(inside[::-1])
    below, above = jnp.sum(jnp.where(center < low, count, 0.0)), jnp.sum(jnp.where(center > high, count, 0.0))
    return jnp.where(bins == first, below, 0.0) + jnp.where(bins == last, above, 0.0)


@register
def histogram(candidates: int = 40) -> Observer:
    """Shrink the observed range to the fraction whose quantized histogram diverges least from the observed one.

    Tries `candidates` fractions (entropy calibration: Migacz 2017, "8-bit inference with TensorRT"; Wu et al. 2020,
    arXiv 2004.09602).
    """
    return Observer(
        init=sketch.empty,
        update=sketch.update,
        range=lambda s, steps, symmetric: least_cost_range(divergence, s, steps, symmetric, candidates),
    )
