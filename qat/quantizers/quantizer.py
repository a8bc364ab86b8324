"""The interface of a quantizer: differentiable rounding, and the learned parts of its grid."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.numerics import SMALLEST_SCALE, QParams, valued
from qat.registry import Registry

Learned = dict[str, Array]


@dataclass(frozen=True)
class Quantizer:
    """`learned` names the trainable values of a tensor; `init(params)` starts them from a calibrated grid;
    `grid(params, values)` is the grid they stand for, used by the forward pass as it is; `fake_quant(x, params,
    values)` has the same values as quantizing on that grid and defines the gradient.

    `gain(grid, count)`, where there is one, is what the gradient of the learned values is multiplied by, given how many
    values share a scale: of a weight all, of an activation those that one product sums (of a convolution, those of one
    example)."""

    learned: tuple[str, ...]
    init: Callable[[QParams], Learned]
    grid: Callable[[QParams, Learned], QParams]
    fake_quant: Callable[[Float[Array, "..."], QParams, Learned], Float[Array, "..."]]
    gain: Callable[[QParams, float], Float[Array, "..."]] | None = None


quantizers: Registry[Quantizer] = Registry("quantizer")
register = quantizers.register


def learning(quantizer: Quantizer, x: Array, p: QParams, values: Learned, count: float) -> Float[Array, "..."]:
    """`x` on the grid of the learned values, whose gradients are multiplied by the quantizer's gain."""
    if quantizer.gain is None:
        return quantizer.fake_quant(x, p, values)
    gain = jax.lax.stop_gradient(quantizer.gain(quantizer.grid(p, values), count))
    return quantizer.fake_quant(x, p, {name: valued(value, gain * value) for name, value in values.items()})


def magnitude(value: Array) -> Array:
    """A positive scale or bound of a learned value of either sign. It learns at zero too, and below the least scale."""
    positive = jnp.where(value < 0, -value, value)
    return valued(jnp.maximum(positive, SMALLEST_SCALE), positive)
