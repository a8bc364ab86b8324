"""How the axes of a product's operands lie in its result."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array


@dataclass(frozen=True)
class Layout:
    """How an operand's kept axes lie in the product's result: for each side, axes in the result's order and its
    shape."""

    order: tuple[tuple[int, ...], tuple[int, ...]]
    shape: Callable[[int, tuple[int, ...]], tuple[int, ...]]
    summed: tuple[tuple[int, ...], tuple[int, ...]]

    def place(self, side: int, value: Array) -> Array:
        """A value shaped as an operand, with ones on its contracted axes, made to broadcast against the result."""
        if value.ndim == 0:
            return value
        moved = value.transpose(*self.order[side], *self.summed[side])
        return moved.reshape(self.shape(side, moved.shape[: len(self.order[side])]))


def dot_layout(dimension_numbers: Any, ndims: tuple[int, int]) -> Layout:
    """`Layout` of a dot_general: batch axes, then the left operand's free axes, then the right one's."""
    summed, batch = dimension_numbers
    free = [tuple(i for i in range(n) if i not in (*s, *b)) for n, s, b in zip(ndims, summed, batch, strict=True)]

    def shape(side: int, kept: tuple[int, ...]) -> tuple[int, ...]:
        n = len(batch[0])
        ones = (1,) * len(free[1 - side])
        return (*kept, *ones) if side == 0 else (*kept[:n], *ones, *kept[n:])

    order = ((*batch[0], *free[0]), (*batch[1], *free[1]))
    return Layout(order, shape, (tuple(summed[0]), tuple(summed[1])))


def conv_layout(numbers: Any) -> Layout:
    """`Layout` of a convolution: of the left operand the batch axis is kept, of the right one the output features."""
    ndim = len(numbers.out_spec)

    def shape(side: int, kept: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(kept[0] if i == numbers.out_spec[side] else 1 for i in range(ndim))

    lhs, rhs = numbers.lhs_spec, numbers.rhs_spec
    return Layout(((lhs[0],), (rhs[0],)), shape, (tuple(lhs[1:]), tuple(rhs[1:])))
