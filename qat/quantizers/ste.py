"""The straight-through estimator."""

from dataclasses import replace

import jax
from jaxtyping import Array, Float

from qat.numerics import QParams, clip_closed, clip_rounded, fake_quant
from qat.quantizers.quantizer import Learned, Quantizer, register


def straight_through(x: Float[Array, "..."], p: QParams, values: Learned) -> Float[Array, "..."]:
    """`x` on its grid, with a gradient as `ste` says."""
    del values
    clip = clip_closed if p.zero_point is None else clip_rounded
    return fake_quant(x, replace(p, scale=jax.lax.stop_gradient(p.scale)), clip)


@register
def ste() -> Quantizer:
    """Rounding passes the gradient as it is, clipping zeroes it, the scale is fixed (Bengio et al. 2013, arXiv
    1308.3432).

    On a grid with a zero point the gradient passes half a step beyond the outermost codes as well, to all values that
    round to them: zero is made a code by moving the calibrated range, whose smallest or largest values, often many at
    once, would never learn.
    """
    return Quantizer(
        learned=(),
        init=lambda p: {},
        grid=lambda p, values: p,
        fake_quant=straight_through,
    )
