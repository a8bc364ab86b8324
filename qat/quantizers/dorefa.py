"""Weights squeezed by a hyperbolic tangent before they are rounded."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.quantizers.quantizer import Quantizer, register
from qat.quantizers.ste import straight_through


def _squeezed(x: Array, bound: Array) -> Array:
    """tanh(x) stretched to the largest absolute value that x had; barriers keep it the same in every program."""
    bound = jax.lax.stop_gradient(bound)
    ratio = jnp.where(bound > 0, bound / jnp.tanh(bound), 1.0)
    ratio, tanh = jax.lax.optimization_barrier((ratio, jnp.tanh(x.astype(jnp.float32))))
    return jax.lax.optimization_barrier(tanh * ratio).astype(x.dtype)


@register
def dorefa() -> Quantizer:
    """Round tanh(w) m / tanh(m) straight through, where m is the largest |w| of those that share a scale (DoReFa-Net,
    Zhou et al. 2016, arXiv 1606.06160).

    The tangent draws outliers in, whose gradient shrinks. The paper brings weights to [-1, 1]; here they keep their
    largest size, so that a trained network starts as it was. Activations are rounded straight through within their
    calibrated range, the paper's within [0, 1]. The served integers are those of the squeezed weights.
    """
    return Quantizer(
        learned=(),
        init=lambda p: {},
        grid=lambda p, values: p,
        fake_quant=straight_through,
        reshape=_squeezed,
    )
