"""Rounding with a gradient from a Fourier series of the rotated staircase."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.numerics import QParams, fake_quant, rounding_error, with_gradient
from qat.quantizers.lsq import with_learned_scale
from qat.quantizers.quantizer import Quantizer, register

LARGEST = 1 / (math.sqrt(2) * math.pi)  # from here on the gradient is zero or negative on grid points


@register
def stable(amplitude: float = 0.21) -> Quantizer:
    """Pass the gradient where a value is about to change its code, and damp it on grid points; learn the scale as `lsq`
    does (StableQAT, Chen et al. 2026, arXiv 2601.19320).

    The staircase turned by 45 degrees is a triangle wave; of its Fourier series the first term remains, damped to
    `amplitude` A. Turned back, the gradient in range is (1 - a cos(pi e)) / (1 + a cos(pi e)), where
    a = sqrt(2) pi A and e is the rounding error in steps: 1 half way between two codes, (1 - a) / (1 + a) on a code.
    With `amplitude` 0 it is straight through. 0.21 is the paper's.
    """
    if not 0 <= amplitude < LARGEST:
        raise ValueError(f"`amplitude` must be in [0, {LARGEST:.4f}), got {amplitude!r}. 0.21 is the default.")
    a = math.sqrt(2) * math.pi * amplitude

    def rounded(x: Array, grid: QParams) -> Array:
        wave = a * jnp.cos(jnp.pi * rounding_error(x, grid))
        return fake_quant(with_gradient(x, jax.lax.stop_gradient((1 - wave) / (1 + wave))), grid)

    return with_learned_scale(rounded)
