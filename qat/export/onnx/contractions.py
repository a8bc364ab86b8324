"""Products of two operands, float or quantized: `dot_general` as Gemm or MatMul, convolutions as Conv."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from qat.export.onnx.context import Context, UnsupportedError, lowering
from qat.export.onnx.dims import is_static
from qat.export.onnx.graph import onnx_dtype
from qat.export.onnx.shapes import padded
from qat.export.onnx.values import Value, laid_out

Integers = tuple[str, str | None, str]
"""Tensors of a dynamically quantized operand: codes, their zero point, scales that broadcast against the product."""


@dataclass(frozen=True, eq=False)
class Side:
    """One operand of a product. `place(order, shape)` gives its tensor with the axes in this order, then reshaped
    (None: left so), dequantized where the operand is quantized.

    `order` is that of an activation's axes as they are stored. `scales(order, shape)` are those of a statically
    quantized operand, made likewise. `integers(order, shape)` are the tensors of one that is multiplied in integers,
    scales having length one where `order` ends in `summed` axes.
    """

    shape: tuple[Any, ...]
    place: Callable[[tuple[int, ...], tuple[Any, ...] | None], str]
    _: KW_ONLY
    fixed: bool = False
    order: tuple[int, ...] | None = None
    scales: Callable[[tuple[int, ...], tuple[Any, ...] | None], np.ndarray] | None = None
    integers: Callable[[tuple[int, ...], tuple[Any, ...] | None], Integers] | None = None


def float_side(ctx: Context, x: Value) -> Side:
    """An operand in float."""

    def place(order: tuple[int, ...], shape: tuple[Any, ...] | None) -> str:
        name = ctx.full(x, order)
        return name if shape is None else ctx.placing.reshape(name, shape)

    return Side(x.shape, place, fixed=x.known)


@lowering("dot_general")
def _dot_general(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    return dot(ctx, [float_side(ctx, a) for a in args], eqn)


@lowering("conv_general_dilated")
def _conv(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, eqn = undilated(ctx, args[0], eqn)
    return conv(ctx, [float_side(ctx, x), float_side(ctx, args[1])], eqn)


def addition(ctx: Context, sides: list[Side], eqn: Any) -> Value:
    """The sum of two quantized operands, in the layout that the first one has."""
    aval = eqn.outvars[0].aval
    order = next((side.order for side in sides if side.order is not None), tuple(range(len(aval.shape))))
    return laid_out(ctx.op("Add", *[side.place(order, None) for side in sides]), aval.shape, aval.dtype, order)


@dataclass(frozen=True)
class Axes:
    """The axes of an operand: those of the batch, those summed, and the free ones."""

    batch: tuple[int, ...]
    summed: tuple[int, ...]
    free: tuple[int, ...]


def dot(ctx: Context, sides: list[Side], eqn: Any) -> Value:
    """A dot_general: a Gemm where one side is a weight without batch axes, else a MatMul."""
    summed, batch = eqn.params["dimension_numbers"]
    axes = [
        Axes(tuple(b), tuple(s), tuple(i for i in range(len(side.shape)) if i not in (*s, *b)))
        for side, s, b in zip(sides, summed, batch, strict=True)
    ]
    aval, kind = eqn.outvars[0].aval, onnx_dtype(eqn.outvars[0].aval.dtype)
    fixed = [side.fixed for side in sides]
    if not axes[0].batch and any(fixed) and kind.kind == "f":
        # The weight is the right operand: where it is on the left, the result is stored with its axes behind.
        data = 1 if fixed[0] and not fixed[1] else 0
        name = _gemm(ctx, sides[data], axes[data], sides[1 - data], axes[1 - data])
        first, second = (_lengths(sides[i], axes[i].free) for i in (data, 1 - data))
        order = tuple(range(len(aval.shape)))
        order = order[len(second) :] + order[: len(second)] if data else order
        shape = (*first, *second)
        if len(shape) != 2:
            name = ctx.placing.reshape(name, shape)
        return laid_out(name, aval.shape, aval.dtype, order)
    name = _matmul(ctx, sides, axes, kind)
    return laid_out(name, aval.shape, aval.dtype, range(len(aval.shape)))


def _lengths(side: Side, axes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(side.shape[i] for i in axes)


def _size(side: Side, axes: tuple[int, ...]) -> Any:
    return math.prod(_lengths(side, axes), start=1)


def _gemm(ctx: Context, data: Side, a: Axes, weight: Side, b: Axes) -> str:
    """Rows of data times a weight, as a matrix."""
    left = ((*a.free, *a.summed), (_size(data, a.free), _size(data, a.summed)))
    right = ((*b.summed, *b.free), (_size(weight, b.summed), _size(weight, b.free)))
    left = (left[0], None) if len(left[0]) == 2 and len(a.free) == 1 else left
    if data.integers is not None and weight.integers is not None:
        return _integer_product(ctx, data.integers(*left), weight.integers(*right))
    name = ctx.op("Gemm", data.place(*left), weight.place(*right))
    _remember_scales(ctx, name, data, left, weight, right)
    return name


def _remember_scales(ctx: Context, name: str, data: Side, left: Any, weight: Side, right: Any) -> None:
    """Keep the scale of each column (or channel) of a product with its node, by which its bias becomes integers."""
    node = ctx.graph.producer(name)
    if data.scales is not None and weight.scales is not None and node is not None:
        product = data.scales(*left).reshape(-1) * weight.scales(*right).reshape(-1)
        node.scales = product.astype(np.float32)


def _integer_product(ctx: Context, left: Integers, right: Integers) -> str:
    sums = ctx.op("MatMulInteger", left[0], right[0], left[1], right[1])
    return ctx.op("Mul", ctx.graph.cast(sums, np.float32), ctx.op("Mul", left[2], right[2]))


def _matmul(ctx: Context, sides: list[Side], axes: list[Axes], kind: np.dtype) -> str:
    placed = []
    for i, (side, a) in enumerate(zip(sides, axes, strict=True)):
        inner = (a.free, a.summed) if i == 0 else (a.summed, a.free)
        order = (*a.batch, *inner[0], *inner[1])
        shape = (*_lengths(side, a.batch), _size(side, inner[0]), _size(side, inner[1]))
        placed.append((order, None if len(inner[0]) == len(inner[1]) == 1 else shape))
    if all(side.integers is not None for side in sides):
        left, right = (side.integers(*p) for side, p in zip(sides, placed, strict=True) if side.integers)
        name = _integer_product(ctx, left, right)
    else:
        name = ctx.op("MatMul", *[side.place(*p) for side, p in zip(sides, placed, strict=True)])
    if len(axes[0].free) == len(axes[1].free) == 1:
        return name
    free = [_lengths(side, a.free) for side, a in zip(sides, axes, strict=True)]
    return ctx.placing.reshape(name, (*_lengths(sides[0], axes[0].batch), *free[0], *free[1]))


def conv(ctx: Context, sides: list[Side], eqn: Any) -> Value:
    """A convolution, its operands and its result with channels before the spatial axes."""
    p, aval = eqn.params, eqn.outvars[0].aval
    numbers = p["dimension_numbers"]
    if p["batch_group_count"] != 1:
        raise UnsupportedError("with batch groups")
    pads = p["padding"]
    if any(n != 1 for n in p["lhs_dilation"]) or any(n < 0 for pair in pads for n in pair):
        raise UnsupportedError("dilated or cut on the left, inside `conv`")
    if not is_static(sides[1].shape):
        raise UnsupportedError("with a kernel of symbolic shape")
    lhs, rhs, out = tuple(numbers.lhs_spec), tuple(numbers.rhs_spec), tuple(numbers.out_spec)
    attributes = {
        "kernel_shape": [sides[1].shape[i] for i in rhs[2:]],
        "strides": list(p["window_strides"]),
        "dilations": list(p["rhs_dilation"]),
        "group": p["feature_group_count"],
        "pads": [low for low, _ in pads] + [high for _, high in pads],
    }
    if not lhs[2:]:
        raise UnsupportedError("without spatial axes")
    data, weight = sides
    if data.integers is not None and weight.integers is not None:
        return laid_out(_integer_conv(ctx, data, weight, (lhs, rhs), attributes), aval.shape, aval.dtype, out)
    name = ctx.op("Conv", data.place(lhs, None), weight.place(rhs, None), **attributes)
    _remember_scales(ctx, name, data, (lhs, None), weight, (rhs, None))
    return laid_out(name, aval.shape, aval.dtype, out)


def _integer_conv(ctx: Context, data: Side, weight: Side, orders: Any, attributes: dict[str, Any]) -> str:
    assert data.integers is not None and weight.integers is not None
    left, right = data.integers(orders[0], None), weight.integers(orders[1], None)
    sums = ctx.graph.cast(ctx.op("ConvInteger", left[0], right[0], left[1], right[1], **attributes), np.float32)
    # A kernel's scales stand on its axis of features, a product's on its axis of channels.
    array = ctx.graph.constant_of(right[2])
    assert array is not None
    by_channel = array.reshape(1, -1, *[1] * (array.ndim - 2)) if array.size > 1 else array.reshape(())
    return ctx.op("Mul", sums, ctx.op("Mul", left[2], ctx.number(by_channel, np.float32)))


def undilated(ctx: Context, x: Value, eqn: Any) -> tuple[Value, Any]:
    """A convolution's left operand with zeros between its elements where the equation dilates it, cut where its padding
    is negative; and the equation that remains."""
    p = eqn.params
    lhs = tuple(p["dimension_numbers"].lhs_spec)
    config = [(0, 0, 0)] * len(lhs)
    pads = []
    for axis, (low, high), n in zip(lhs[2:], p["padding"], p["lhs_dilation"], strict=True):
        config[lhs.index(axis)] = (min(low, 0), min(high, 0), n - 1)
        pads.append((max(low, 0), max(high, 0)))
    if all(c == (0, 0, 0) for c in config):
        return x, eqn
    zero = ctx.number(0, x.dtype)
    name = padded(ctx, ctx.full(x, lhs), [x.shape[i] for i in lhs], config, zero)
    shape = list(x.shape)
    for axis, (low, high, between) in zip(lhs, config, strict=True):
        shape[axis] = (shape[axis] - 1) * (between + 1) + 1 + low + high
    params = {**p, "padding": tuple(pads), "lhs_dilation": (1,) * len(pads)}
    return laid_out(name, shape, x.dtype, lhs), eqn.replace(params=params)
