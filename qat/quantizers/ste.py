"""The straight-through estimator."""

from dataclasses import replace

import jax

from qat.numerics import fake_quant
from qat.quantizers.quantizer import Quantizer, register


@register
def ste() -> Quantizer:
    """Rounding passes the gradient as it is, clipping zeroes it, the scale is fixed (Bengio et al. 2013, arXiv
    1308.3432)."""
    return Quantizer(
        learned=(),
        init=lambda p: {},
        grid=lambda p, values: p,
        fake_quant=lambda x, p, values: fake_quant(x, replace(p, scale=jax.lax.stop_gradient(p.scale))),
    )
