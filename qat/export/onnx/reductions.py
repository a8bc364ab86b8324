"""Lowerings of primitives that reduce, accumulate, order and pool values."""

import math
from typing import Any

import numpy as np

from qat.export.onnx.context import Context, UnsupportedError, lowering
from qat.export.onnx.dims import is_static
from qat.export.onnx.graph import onnx_dtype
from qat.export.onnx.shapes import padded
from qat.export.onnx.values import Value, laid_out

REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_and": "ReduceMin",
    "reduce_or": "ReduceMax",
}


@lowering(*REDUCTIONS)
def _reduce(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    axes, aval = tuple(eqn.params["axes"]), eqn.outvars[0].aval
    name, order = ctx.placing.stored(args[0])
    if not axes:
        return args[0]
    places = sorted(order.index(i) for i in axes)
    logical = onnx_dtype(eqn.invars[0].aval.dtype) == np.bool_
    name = ctx.graph.cast(name, np.int32) if logical else name
    name = ctx.graph.reduce(REDUCTIONS[eqn.primitive.name], name, places)
    node, lengths = ctx.graph.producer(name), [args[0].shape[i] for i in axes]
    if node is not None and is_static(lengths):
        node.size = math.prod(lengths)
    name = ctx.graph.squeeze(name, places)
    return laid_out(ctx.graph.cast(name, np.bool_) if logical else name, aval.shape, aval.dtype, _left(order, axes))


def _left(order: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The order of the logical axes that remain, numbered anew."""
    return tuple(i - sum(a < i for a in axes) for i in order if i not in axes)


@lowering("argmax", "argmin")
def _arg(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    (axis,), aval = eqn.params["axes"], eqn.outvars[0].aval
    name = ctx.full(args[0])
    if onnx_dtype(eqn.invars[0].aval.dtype) == np.bool_:
        name = ctx.graph.cast(name, np.int32)
    op = "ArgMax" if eqn.primitive.name == "argmax" else "ArgMin"
    found = ctx.op(op, name, axis=axis, keepdims=0, select_last_index=0)
    return ctx.result(ctx.graph.cast(found, onnx_dtype(aval.dtype)), eqn)


@lowering("cumsum")
def _cumsum(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    axis, reverse = ctx.number(eqn.params["axis"], np.int64), int(eqn.params["reverse"])
    return ctx.result(ctx.op("CumSum", ctx.full(args[0]), axis, reverse=reverse), eqn)


@lowering("top_k")
def _top_k(ctx: Context, eqn: Any, args: list[Value]) -> list[Value]:
    axis = eqn.params.get("axis", -1)
    k = ctx.dims.length(eqn.params["k"])
    values, places = ctx.graph.emit("TopK", [ctx.full(args[0]), k], 2, axis=axis, largest=1, sorted=1)
    places = ctx.graph.cast(places, onnx_dtype(eqn.outvars[1].aval.dtype))
    return [ctx.result(values, eqn), ctx.result(places, eqn, index=1)]


@lowering("sort")
def _sort(ctx: Context, eqn: Any, args: list[Value]) -> list[Value]:
    if eqn.params["num_keys"] != 1:
        raise UnsupportedError(f"by {eqn.params['num_keys']} keys")
    axis, names = eqn.params["dimension"], [ctx.full(a) for a in args]
    if onnx_dtype(eqn.invars[0].aval.dtype) == np.bool_:
        raise UnsupportedError("of bool")
    # TopK gives the lower index first among equal values, so it sorts stably.
    k = ctx.dims.length(args[0].shape[axis])
    values, places = ctx.graph.emit("TopK", [names[0], k], 2, axis=axis, largest=0, sorted=1)
    others = [ctx.op("GatherElements", name, places, axis=axis) for name in names[1:]]
    return [ctx.result(name, eqn, index=i) for i, name in enumerate([values, *others])]


@lowering("reduce_window_max", "reduce_window_min", "reduce_window_sum")
def _reduce_window(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    p, x = eqn.params, args[0]
    window, kind = tuple(p["window_dimensions"]), eqn.primitive.name
    if any(n != 1 for n in p["base_dilation"]):
        raise UnsupportedError("with a base dilation")
    plain = [i for i, n in enumerate(window) if n == 1 and p["window_strides"][i] == 1 and p["padding"][i] == (0, 0)]
    spatial = [i for i in range(len(window)) if i not in plain]
    if not spatial:
        return x
    # Pooling has one axis of examples and one of channels before the spatial ones; others are joined with the first.
    order = (*plain, *spatial)
    name, shape = ctx.full(x, order), [x.shape[i] for i in order]
    lead = shape[: len(plain)]
    if len(plain) != 2:
        name = ctx.placing.reshape(name, (math.prod(lead, start=1), 1, *shape[len(plain) :]))
    pooled = _pooled(ctx, name, kind, p, spatial)
    aval = eqn.outvars[0].aval
    if len(plain) != 2:
        pooled = ctx.placing.reshape(pooled, [aval.shape[i] for i in order])
    return laid_out(pooled, aval.shape, aval.dtype, order)


def _pooled(ctx: Context, x: str, kind: str, p: dict[str, Any], spatial: list[int]) -> str:
    window = [p["window_dimensions"][i] for i in spatial]
    pads = [p["padding"][i] for i in spatial]
    common = {
        "kernel_shape": window,
        "strides": [p["window_strides"][i] for i in spatial],
        "pads": [low for low, _ in pads] + [high for _, high in pads],
        "dilations": [p["window_dilation"][i] for i in spatial],
    }
    if any(low >= n or high >= n for (low, high), n in zip(pads, window, strict=True)):
        raise UnsupportedError("padded by a whole window")
    if kind == "reduce_window_max":
        return ctx.op("MaxPool", x, **common)
    if kind == "reduce_window_min":
        return ctx.op("Neg", ctx.op("MaxPool", ctx.op("Neg", x), **common))
    if any(n != 1 for n in common.pop("dilations")):
        raise UnsupportedError("with a dilated window")
    size = ctx.number(math.prod(window), np.float32)
    if any(pair != (0, 0) for pair in pads):
        config = [(0, 0, 0), (0, 0, 0), *[(low, high, 0) for low, high in pads]]
        x = padded(ctx, x, [0] * len(config), config, ctx.number(0, np.float32))
        common["pads"] = [0] * (2 * len(window))
    return ctx.op("Mul", ctx.op("AveragePool", x, **common), size)
