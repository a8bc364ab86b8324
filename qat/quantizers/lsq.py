"""Learned step size quantization."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.numerics import QParams, fake_quant
from qat.quantizers.quantizer import Learned, Quantizer, magnitude, register


def learned_grid(p: QParams, values: Learned) -> QParams:
    """The grid with the learned scale."""
    return replace(p, scale=magnitude(values["scale"]))


def gain(p: QParams, count: float) -> Float[Array, "..."]:
    """1 / sqrt(values that share a scale * steps from zero to the farther end of its grid)."""
    zero = 0 if p.zero_point is None else p.zero_point
    farthest = jnp.maximum(p.qmax - zero, zero - p.qmin).astype(jnp.float32)
    return jax.lax.rsqrt(count * farthest)


def with_learned_scale(rounded: Callable[[Array, QParams], Array]) -> Quantizer:
    """A quantizer that rounds values on the grid with the learned scale, which starts from the calibrated one."""
    return Quantizer(
        learned=("scale",),
        init=lambda p: {"scale": p.scale},
        grid=learned_grid,
        fake_quant=lambda x, p, values: rounded(x, learned_grid(p, values)),
        gain=gain,
    )


@register
def lsq() -> Quantizer:
    """Learn the scale by gradient descent (learned step size, Esser et al. 2020, arXiv 1902.08153).

    Its gradient is multiplied by 1 / sqrt(values that share it * largest code). For an activation the values of one
    contracted row or example count, never the batch, so that training does not depend on how a batch is split. The zero
    point stays at its calibrated value.
    """
    return with_learned_scale(fake_quant)
