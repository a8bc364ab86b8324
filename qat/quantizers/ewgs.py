"""Straight-through gradients scaled element by element."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.numerics import QParams, fake_quant, rounding_error
from qat.quantizers.lsq import with_learned_scale
from qat.quantizers.quantizer import Quantizer, register


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _scaled(x: Array, error: Array, delta: float) -> Array:
    """`x`, whose gradient g becomes g (1 + delta sign(g) error).

    Scaling at the float value is scaling at the rounded one: what lies between them, clipping and rounding straight
    through, is zero or one.
    """
    del error, delta
    return x


def _forward(x: Array, error: Array, delta: float) -> tuple[Array, Array]:
    del delta
    return x, error


def _backward(delta: float, error: Array, g: Array) -> Any:
    return (g * (1 + delta * jnp.sign(g) * error)).astype(g.dtype), jnp.zeros_like(error)


_scaled.defvjp(_forward, _backward)


@register
def ewgs(delta: float = 0.2) -> Quantizer:
    """Scale each gradient by what rounding did to its element, and learn the scale as `lsq` does (element-wise gradient
    scaling, Lee et al. 2021, arXiv 2104.00903).

    The gradient g in range becomes g (1 + delta sign(g) e), where e is the rounding error x / s - [x / s]: larger where
    a step of descent leads towards the value's own code, smaller where it leads away. Our e is in steps, the paper's
    in shares of the range; its `delta`, set by layer from the Hessian's trace, is here one number. 0 is straight
    through. The gradient is not linear, so there is no forward mode.
    """
    if not 0 <= delta <= 2:
        raise ValueError(f"`delta` must be in [0, 2], so that no gradient changes its sign, got {delta!r}.")

    def rounded(x: Array, grid: QParams) -> Array:
        return fake_quant(_scaled(x, rounding_error(x, grid), delta), grid)

    return with_learned_scale(rounded)
