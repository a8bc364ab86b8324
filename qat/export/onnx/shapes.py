"""Lowerings of primitives that move, repeat, join and cut values without computing with them."""

from typing import Any

import numpy as np

from qat.export.onnx.context import Context, lowering
from qat.export.onnx.dims import is_static
from qat.export.onnx.graph import onnx_dtype
from qat.export.onnx.values import Value, constant, laid_out, tensor, transposed

END = np.iinfo(np.int64).max


@lowering("transpose")
def _transpose(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    return transposed(args[0], eqn.params["permutation"])


@lowering("broadcast_in_dim")
def _broadcast_in_dim(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, shape, places = args[0], tuple(eqn.params["shape"]), tuple(eqn.params["broadcast_dimensions"])
    if x.constant is not None:
        lengths = dict(zip(places, x.constant.shape, strict=True))
        return constant(x.constant.reshape([lengths.get(i, 1) for i in range(len(shape))]), shape)
    # New axes go right behind the logical axis before them, so that a later merge with it needs no transpose.
    order: list[int] = [places[i] for i in x.order]
    for i in range(len(shape)):
        if i not in places:
            at = order.index(i - 1) + 1 if i - 1 in order else 0
            order.insert(at, i)
    new = [at for at, i in enumerate(order) if i not in places]
    assert x.name is not None
    out = laid_out(ctx.graph.unsqueeze(x.name, new), shape, x.dtype, order)
    have = {p: x.shape[i] for i, p in enumerate(places)}
    repeated = {p for p, n in have.items() if _is_one(n) and not _is_one(shape[p])} | {places[i] for i in x.ones}
    repeated |= {i for i in range(len(shape)) if i not in places and not _is_one(shape[i])}
    return Value(shape, out.dtype, out.name, axes=out.axes, ones=frozenset(repeated))


def _is_one(n: Any) -> bool:
    return isinstance(n, int) and n == 1


@lowering("reshape", "squeeze", "expand_dims")
def _reshape(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, shape = args[0], tuple(eqn.outvars[0].aval.shape)
    if eqn.params.get("dimensions") is not None and eqn.primitive.name == "reshape":
        x = transposed(x, eqn.params["dimensions"])
    groups = grouped(x.shape, shape)
    if groups is not None and not x.known:
        kept = _in_layout(ctx, x, shape, groups)
        if kept is not None:
            return kept
    return tensor(ctx.placing.reshape(ctx.full(x), shape), shape, x.dtype)


Groups = list[tuple[list[int], list[int]]]


def grouped(old: tuple[Any, ...], new: tuple[Any, ...]) -> Groups | None:
    """Runs of axes of one shape and of another that hold the same elements; None where that cannot be told."""
    groups: Groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        # An axis of length one on one side alone is a run of its own, so that it ties no others together.
        one, other = i < len(old) and _is_one(old[i]), j < len(new) and _is_one(new[j])
        before, after = [i] if i < len(old) else [], [j] if j < len(new) else []
        if one != other:
            before, after = (before, []) if one else ([], after)
        have, want = (old[i] if before else 1), (new[j] if after else 1)
        i, j = i + len(before), j + len(after)
        while have != want:
            grow = _smaller(have, want)
            if grow is None or (grow and i == len(old)) or (not grow and j == len(new)):
                return None
            if grow:
                have, i = have * old[i], i + 1
                before.append(i - 1)
            else:
                want, j = want * new[j], j + 1
                after.append(j - 1)
        groups.append((before, after))
    return groups


def _smaller(have: Any, want: Any) -> bool | None:
    try:
        return bool(have < want)
    except Exception as error:
        if type(error).__name__ != "InconclusiveDimensionOperation":  # jax does not export it
            raise
        return None


def _in_layout(ctx: Context, x: Value, shape: tuple[Any, ...], groups: Groups) -> Value | None:
    """The value reshaped in the layout in which it is stored, None where a run of its axes is not stored as one."""
    placed = []
    for before, after in groups:
        stored = [x.axes[i] for i in before]
        if stored != list(range(stored[0], stored[0] + len(stored))) if stored else False:
            return None
        placed.append((stored[0] if stored else -1, after))
    # An axis of length one that has no counterpart goes behind the group before it.
    last = -1
    for n, (at, after) in enumerate(placed):
        placed[n] = (at if at >= 0 else last, after)
        last = placed[n][0]
    order = [j for _, after in sorted(placed, key=lambda p: p[0]) for j in after]
    name = ctx.full(x, x.order)
    target = tuple(shape[j] for j in order)
    if target != tuple(x.shape[i] for i in x.order):
        name = ctx.placing.reshape(name, target)
    return laid_out(name, shape, x.dtype, order)


@lowering("concatenate")
def _concatenate(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    order = next((a.order for a in args if not a.known), args[0].order)
    names = [ctx.full(a, order) for a, v in zip(args, eqn.invars, strict=True) if not _is_empty(v.aval.shape)]
    axis = order.index(eqn.params["dimension"])
    return ctx.result(names[0] if len(names) == 1 else ctx.op("Concat", *names, axis=axis), eqn, order)


def _is_empty(shape: tuple[Any, ...]) -> bool:
    return any(isinstance(n, int) and n == 0 for n in shape)


@lowering("stack")
def _stack(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    axis = eqn.params.get("axis", 0)
    names = [ctx.graph.unsqueeze(ctx.full(a), (axis,)) for a in args]
    return ctx.result(ctx.op("Concat", *names, axis=axis), eqn)


@lowering("unstack")
def _unstack(ctx: Context, eqn: Any, args: list[Value]) -> list[Value]:
    axis, x = eqn.params.get("axis", 0), ctx.full(args[0])
    rows = [ctx.op("Gather", x, ctx.number(i, np.int64), axis=axis) for i in range(len(eqn.outvars))]
    return [ctx.result(row, eqn, index=i) for i, row in enumerate(rows)]


@lowering("split")
def _split(ctx: Context, eqn: Any, args: list[Value]) -> list[Value]:
    (x, order), axis = ctx.placing.stored(args[0]), eqn.params["axis"]
    sizes = ctx.dims.shape(eqn.params["sizes"])
    names = ctx.graph.emit("Split", [x, sizes], len(eqn.outvars), axis=order.index(axis))
    return [ctx.result(name, eqn, order, index=i) for i, name in enumerate(names)]


def cut(ctx: Context, name: str, axis: int, start: Any, stop: Any, step: int = 1) -> str:
    """A tensor cut along one axis; bounds may be symbolic."""
    bounds = [ctx.dims.length(n) if not isinstance(n, str) else n for n in (start, stop)]
    return ctx.op("Slice", name, *bounds, ctx.number([axis], np.int64), ctx.number([step], np.int64))


@lowering("slice")
def _slice(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    p, (x, order) = eqn.params, ctx.placing.stored(args[0])
    strides = p["strides"] or (1,) * len(order)
    for axis, (start, stop, step) in enumerate(zip(p["start_indices"], p["limit_indices"], strides, strict=True)):
        if not (is_static([start]) and start == 0 and stop == args[0].shape[axis] and step == 1):
            x = cut(ctx, x, order.index(axis), start, stop, step)
    return ctx.result(x, eqn, order)


@lowering("rev")
def _rev(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, order = ctx.placing.stored(args[0])
    for axis in eqn.params["dimensions"]:
        x = cut(ctx, x, order.index(axis), -1, -END, -1)
    return ctx.result(x, eqn, order)


@lowering("pad")
def _pad(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, order = ctx.placing.stored(args[0])
    config = [eqn.params["padding_config"][i] for i in order]
    shape = [args[0].shape[i] for i in order]
    return ctx.result(padded(ctx, x, shape, config, ctx.full(args[1])), eqn, order)


def padded(ctx: Context, x: str, shape: list[Any], config: list[tuple[Any, Any, int]], value: str) -> str:
    """A tensor padded with a value, on both ends (fewer than zero cut off) and between elements."""
    for axis, (_, _, between) in enumerate(config):
        if between:
            x, shape = _spaced(ctx, x, shape, axis, between, value)
    low, high = [c[0] for c in config], [c[1] for c in config]
    if any(_positive(n) for n in (*low, *high)):
        pads = ctx.dims.shape([n if _positive(n) else 0 for n in (*low, *high)])
        x = ctx.op("Pad", x, pads, value, mode="constant")
    for axis, (first, last) in enumerate(zip(low, high, strict=True)):
        cuts = (-first if not _positive(first) else 0, -last if not _positive(last) else 0)
        if cuts != (0, 0):
            x = cut(ctx, x, axis, cuts[0], -cuts[1] if cuts[1] else END)
    return x


def _positive(n: Any) -> bool:
    return not isinstance(n, int) or n > 0


def _spaced(ctx: Context, x: str, shape: list[Any], axis: int, between: int, value: str) -> tuple[str, list[Any]]:
    """A tensor with so many copies of a value between neighbours along an axis."""
    x = ctx.graph.unsqueeze(x, (axis + 1,))
    pads = [0] * (2 * (len(shape) + 1))
    pads[len(shape) + 1 + axis + 1] = between
    x = ctx.op("Pad", x, ctx.number(pads, np.int64), value, mode="constant")
    longer = [*shape]
    longer[axis] = shape[axis] * (between + 1)
    x = cut(ctx, ctx.placing.reshape(x, longer), axis, 0, -between)
    longer[axis] = longer[axis] - between
    return x, longer


@lowering("tile")
def _tile(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    return ctx.result(ctx.op("Tile", ctx.full(args[0]), ctx.dims.shape(eqn.params["reps"])), eqn)


@lowering("iota")
def _iota(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    aval, axis = eqn.outvars[0].aval, eqn.params["dimension"]
    length, kind = aval.shape[axis], onnx_dtype(aval.dtype)
    lengths = [-1 if i == axis else 1 for i in range(len(aval.shape))]
    if is_static([length]):
        return constant(np.arange(length, dtype=kind).reshape(lengths), aval.shape)
    zero, one = ctx.number(0, np.int64), ctx.number(1, np.int64)
    limit = ctx.graph.squeeze(ctx.dims.length(length), (0,))
    numbers = ctx.graph.cast(ctx.op("Range", zero, limit, one), kind)
    ones = frozenset(i for i, n in enumerate(aval.shape) if i != axis and not _is_one(n))
    name = ctx.op("Reshape", numbers, ctx.number(lengths, np.int64))
    return Value(tuple(aval.shape), kind, name, axes=tuple(range(len(aval.shape))), ones=ones)


@lowering("dim_as_value")
def _dim_as_value(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    name = ctx.graph.squeeze(ctx.dims.length(eqn.params["dim"]), (0,))
    return ctx.result(ctx.graph.cast(name, onnx_dtype(eqn.outvars[0].aval.dtype)), eqn)
