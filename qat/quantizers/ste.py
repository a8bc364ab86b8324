"""The straight-through estimator."""

from dataclasses import replace

import jax

from qat.numerics import fake_quant
from qat.quantizers.quantizer import Quantizer, register


@register
def ste() -> Quantizer:
    """Pass gradients straight through rounding (Bengio et al. 2013, arXiv 1308.3432).

    They are zero where values are clipped; the scale stays fixed.
    """
    return Quantizer(
        learned=(),
        init=lambda p: {},
        grid=lambda p, values: p,
        fake_quant=lambda x, p, values: fake_quant(x, replace(p, scale=jax.lax.stop_gradient(p.scale))),
    )
