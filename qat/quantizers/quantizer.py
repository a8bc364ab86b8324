"""What a quantizer is: differentiable rounding, and what of its grid learns."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Array, Float

from qat.numerics import QParams
from qat.registry import Registry

Learned = dict[str, Array]


@dataclass(frozen=True)
class Quantizer:
    """`learned` names the trainable values of a tensor; `init(params)` starts them from a calibrated grid;
    `grid(params, values)` is the grid they stand for, used by the forward pass as it is; `fake_quant(x, params,
    values)` has the same values as quantizing on that grid and defines the gradient."""

    learned: tuple[str, ...]
    init: Callable[[QParams], Learned]
    grid: Callable[[QParams, Learned], QParams]
    fake_quant: Callable[[Float[Array, "..."], QParams, Learned], Float[Array, "..."]]


quantizers: Registry[Quantizer] = Registry("quantizer")
register = quantizers.register
