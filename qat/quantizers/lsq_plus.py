"""Learned step size quantization with a learned offset."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.numerics import ROUNDING, QParams, expand, fake_quant, valued
from qat.quantizers.lsq import gain
from qat.quantizers.quantizer import Learned, Quantizer, magnitude, register


def _init(p: QParams) -> Learned:
    if p.zero_point is None:
        return {"scale": p.scale}
    return {"scale": p.scale, "offset": -p.zero_point.astype(jnp.float32) * p.scale}


def _grid(p: QParams, values: Learned) -> QParams:
    scale = magnitude(values["scale"])
    if p.zero_point is None:
        return replace(p, scale=scale)
    codes = jnp.clip(jnp.round(-values["offset"] * (1.0 / scale)), *_ends(p))
    return replace(p, scale=scale, zero_point=codes.astype(jnp.int32))


def _ends(p: QParams) -> tuple[Array, Array]:
    """The smallest and the largest code, as floats."""
    return p.qmin.astype(jnp.float32), p.qmax.astype(jnp.float32)


def _fake_quant(x: Array, p: QParams, values: Learned) -> Array:
    grid = _grid(p, values)
    rounded = fake_quant(x, grid)
    if p.zero_point is None:
        return rounded
    # Beyond the grid the value is (code of the bound) * scale + offset; inside, the offset cancels.
    assert grid.zero_point is not None
    zero, scale = expand(grid.zero_point.astype(jnp.float32), x.shape), expand(grid.scale, x.shape)
    low, high = _ends(p)
    steps = jax.lax.stop_gradient(x.astype(jnp.float32) * (1.0 / scale)) + zero
    beyond = (steps < low - ROUNDING) | (steps > high + ROUNDING)
    shift = expand(values["offset"], x.shape) + zero * scale
    moved = jnp.where(beyond, shift - jax.lax.stop_gradient(shift), 0.0)
    return valued(rounded, rounded + moved.astype(rounded.dtype))


@register
def lsq_plus() -> Quantizer:
    """Learn the scale and, on a grid with a zero point, the offset too (LSQ+, Bhalgat et al. 2020, arXiv 2004.09576).

    With v = (x - offset) / scale the scale has the gradient [v] - v in range and the code of the bound outside, the
    offset 0 in range and 1 outside, both times `lsq`'s factor. The offset is that of code zero; it is rounded to a
    whole number of steps, so that zero stays a code, as padding and ReLU need, and integers serve it. Both start from
    the calibrated grid: with the observer `mse`, which presets take below 8 bits, from that of least squared error, as
    in the paper.
    """
    return Quantizer(
        learned=("scale", "offset"),
        of_zero_point=("offset",),
        init=_init,
        grid=_grid,
        fake_quant=_fake_quant,
        gain=gain,
    )
