"""The interface of a quantizer: differentiable rounding, and the learned values of its grid."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.numerics import SMALLEST_SCALE, WITH_ZERO_POINT, QParams, valued
from qat.registry import Registry

Learned = dict[str, Array]


@dataclass(frozen=True)
class Quantizer:
    """`learned` names the trainable values of a tensor; `init(params)` starts them from a calibrated grid;
    `grid(params, values)` is the grid of these values, which the forward pass uses; `fake_quant(x, params, values)`
    equals quantizing on that grid and defines the gradient.

    `gain(grid, count)`, where there is one, multiplies the gradient of the learned values. `count` is the number of
    values that share a scale: for a weight all of them, for an activation the values that one product sums (in a
    convolution, the values of one example). `of_zero_point` are those of `learned` that a grid without a zero point has
    not. `reshape(x, bound)`, where there is one, is applied to weights before they are rounded, in training and in
    conversion; `bound` is the largest absolute value of those that share a scale."""

    learned: tuple[str, ...]
    init: Callable[[QParams], Learned]
    grid: Callable[[QParams, Learned], QParams]
    fake_quant: Callable[[Float[Array, "..."], QParams, Learned], Float[Array, "..."]]
    gain: Callable[[QParams, float], Float[Array, "..."]] | None = None
    of_zero_point: tuple[str, ...] = ()
    reshape: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]] | None = None

    def learned_on(self, grid: str) -> tuple[str, ...]:
        """The trainable values of a tensor on a grid of that kind."""
        return tuple(name for name in self.learned if grid in WITH_ZERO_POINT or name not in self.of_zero_point)


quantizers: Registry[Quantizer] = Registry("quantizer")
"""Quantizers by name."""
register = quantizers.register
"""Make a function that returns a `Quantizer` known under its name; use as a decorator."""


def learning(quantizer: Quantizer, x: Array, p: QParams, values: Learned, count: float) -> Float[Array, "..."]:
    """`x` on the grid of the learned values, whose gradients are multiplied by the quantizer's gain."""
    if quantizer.gain is None:
        return quantizer.fake_quant(x, p, values)
    gain = jax.lax.stop_gradient(quantizer.gain(quantizer.grid(p, values), count))
    return quantizer.fake_quant(x, p, {name: valued(value, gain * value) for name, value in values.items()})


def magnitude(value: Array) -> Array:
    """The positive scale or bound that a learned value of either sign means. Its gradient is never zero, not even at
    zero or below the least scale."""
    positive = jnp.where(value < 0, -value, value)
    return valued(jnp.maximum(positive, SMALLEST_SCALE), positive)
