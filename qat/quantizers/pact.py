"""Parameterized clipping."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from qat.numerics import SMALLEST_SCALE, QParams, expand, fake_quant
from qat.quantizers.quantizer import Learned, Quantizer, magnitude, register


def _codes_above_zero(p: QParams):
    """The number of steps between zero and the upper clip bound; at least one."""
    return jnp.maximum(p.qmax - (0 if p.zero_point is None else p.zero_point), 1).astype(jnp.float32)


def _grid(p: QParams, values: Learned) -> QParams:
    return replace(p, scale=jnp.maximum(magnitude(values["high"]) * (1.0 / _codes_above_zero(p)), SMALLEST_SCALE))


def _fake_quant(x, p: QParams, values: Learned):
    high = expand(magnitude(values["high"]), x.shape)
    clipped = jnp.where(x.astype(jnp.float32) > high, high, x.astype(jnp.float32))
    grid = _grid(p, values)
    return fake_quant(clipped, replace(grid, scale=jax.lax.stop_gradient(grid.scale))).astype(x.dtype)


@register
def pact() -> Quantizer:
    """Learn the upper clip bound from the values that it clips (Choi et al. 2018, arXiv 1805.06085).

    The scale follows the bound. On a symmetric grid the lower bound is its negative and passes no gradient.
    """
    return Quantizer(
        learned=("high",),
        init=lambda p: {"high": p.scale * _codes_above_zero(p)},
        grid=_grid,
        fake_quant=_fake_quant,
    )
