"""Learned step size quantization."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from qat.numerics import SMALLEST_SCALE, QParams, fake_quant
from qat.quantizers.quantizer import Learned, Quantizer, register


def _grid(p: QParams, values: Learned) -> QParams:
    return replace(p, scale=jnp.maximum(jnp.abs(values["scale"]), SMALLEST_SCALE))


def _fake_quant(x, p: QParams, values: Learned):
    grid = _grid(p, values)
    largest = jnp.max(grid.qmax - (0 if grid.zero_point is None else grid.zero_point)).astype(jnp.float32)
    gain = jax.lax.rsqrt(x.size / grid.scale.size * largest)
    scale = grid.scale + (gain - 1) * (
        grid.scale - jax.lax.stop_gradient(grid.scale)
    )  # the value as it is, the gradient times gain
    return fake_quant(x, replace(grid, scale=scale))


@register
def lsq() -> Quantizer:
    """The scale learns, its gradient multiplied by 1 / sqrt(values per scale * largest code) (Esser et al. 2020, arXiv
    1902.08153). Values of an activation are counted over the batch. The zero point stays where calibration put it."""
    return Quantizer(learned=("scale",), init=lambda p: {"scale": p.scale}, grid=_grid, fake_quant=_fake_quant)
