"""Lowerings of look-ups and of writing at places: gather, scatter, dynamic slices."""

import math
from typing import Any

import jax
import numpy as np

from qat.export.onnx.context import Context, UnsupportedError, lowering
from qat.export.onnx.dims import is_static
from qat.export.onnx.elementwise import chosen
from qat.export.onnx.graph import onnx_dtype
from qat.export.onnx.values import Value

Mode = jax.lax.GatherScatterMode
IN_RANGE = (
    "Indices of look-ups must be in range: where the function gives NaN for others, ONNX Runtime raises, or counts "
    "negative ones from the end."
)


def gather_rows(
    ctx: Context, table: str, shape: tuple[int, ...], indices: Value, eqn: Any
) -> tuple[str, tuple[int, ...]]:
    """Whole rows of a table (each a single index of the axes that the gather collapses), and the order of the result's
    logical axes."""
    p, numbers = eqn.params, eqn.params["dimension_numbers"]
    rows = tuple(numbers.start_index_map)
    name = ctx.graph.cast(ctx.full(indices), np.int64)
    if p["mode"] == Mode.CLIP:
        limits = ctx.number([shape[i] - 1 for i in rows], np.int64)
        name = ctx.op("Max", ctx.op("Min", name, limits), ctx.number(0, np.int64))
    elif p["mode"] in (Mode.FILL_OR_DROP, None) and not indices.known:
        ctx.graph.note(IN_RANGE)
    rank = len(indices.shape) - 1
    offsets = tuple(numbers.offset_dims)
    total = rank + len(offsets)
    batch = [i for i in range(total) if i not in offsets]
    if len(rows) == 1:
        flat = ctx.graph.squeeze(name, (rank,))
        found = ctx.op("Gather", table, flat, axis=rows[0])
        return found, (*offsets[: rows[0]], *batch, *offsets[rows[0] :])
    others = [i for i in range(len(shape)) if i not in rows]
    found = ctx.op("GatherND", ctx.graph.transpose(table, (*rows, *others)), name)
    return found, (*batch, *offsets)


def _looks_up_rows(p: dict[str, Any], shape: tuple[int, ...]) -> bool:
    numbers, rows = p["dimension_numbers"], p["dimension_numbers"].start_index_map
    whole = all(p["slice_sizes"][i] == n for i, n in enumerate(shape) if i not in rows)
    one = set(rows) == set(numbers.collapsed_slice_dims) and len(rows) > 0
    return whole and one and not numbers.operand_batching_dims


@lowering("gather")
def _gather(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, indices, p = args[0], args[1], eqn.params
    if _looks_up_rows(p, x.shape):
        table = ctx.graph.cast(ctx.full(x), np.int32) if x.dtype == np.bool_ else ctx.full(x)
        name, order = gather_rows(ctx, table, x.shape, indices, eqn)
        return ctx.result(ctx.graph.cast(name, np.bool_) if x.dtype == np.bool_ else name, eqn, order)
    numbers, out = p["dimension_numbers"], tuple(eqn.outvars[0].aval.shape)
    window = [
        i for i in range(len(x.shape)) if i not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    ]
    places = _Places(ctx, x.shape, out, indices, tuple(numbers.offset_dims))
    places.batch(numbers.operand_batching_dims, numbers.start_indices_batching_dims)
    sizes = dict(enumerate(p["slice_sizes"]))
    places.starts(numbers.start_index_map, sizes, clip=True)
    places.window(window)
    flat = ctx.placing.reshape(ctx.full(x), (-1,))
    found = ctx.op("Gather", flat, places.linear(), axis=0)
    if p["mode"] in (Mode.FILL_OR_DROP, None) and places.outside is not None:
        found = chosen(ctx, places.outside, ctx.number(_fill(p, x.dtype), x.dtype), found, x.dtype)
    return ctx.result(found, eqn)


def _fill(p: dict[str, Any], dtype: np.dtype) -> Any:
    if p["fill_value"] is not None:
        return p["fill_value"]
    if dtype.kind == "f":
        return np.nan
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max


class _Places:
    """The place in the flattened operand of each element of a gather's result, or of a scatter's updates: a sum over
    the operand's axes, each term of which broadcasts against the result."""

    def __init__(self, ctx: Context, shape: Any, out: Any, indices: Value, offsets: tuple[int, ...]):
        if not is_static(shape[1:]):
            raise UnsupportedError("at computed places in an array with a symbolic length behind the first axis")
        self.ctx, self.shape, self.out, self.offsets = ctx, shape, out, offsets
        self.strides = [math.prod(shape[i + 1 :], start=1) for i in range(len(shape))]
        self.indices = ctx.graph.cast(ctx.full(indices), np.int64)
        self.rank = len(indices.shape) - 1
        self.terms: list[str] = []
        self.outside: str | None = None

    def batch(self, axes: Any, index_axes: Any) -> None:
        """Axes that the operand has in common with the indices."""
        others = [i for i in range(len(self.out)) if i not in self.offsets]
        for axis, at in zip(axes, index_axes, strict=True):
            self._iota(axis, others[at])

    def window(self, axes: Any) -> None:
        """Axes of which the result has a window."""
        for axis, at in zip(axes, self.offsets, strict=True):
            self._iota(axis, at)

    def _iota(self, axis: int, at: int) -> None:
        shape = [-1 if i == at else 1 for i in range(len(self.out))]
        if is_static([self.out[at]]):
            numbers = np.arange(self.out[at], dtype=np.int64).reshape(shape)
            self.terms.append(self.ctx.number(numbers * self.strides[axis], np.int64))
            return
        zero, one = self.ctx.number(0, np.int64), self.ctx.number(1, np.int64)
        count = self.ctx.op("Squeeze", self.ctx.dims.length(self.out[at]))
        numbers = self.ctx.op("Reshape", self.ctx.op("Range", zero, count, one), self.ctx.number(shape, np.int64))
        self.terms.append(self.ctx.op("Mul", numbers, self.ctx.number(self.strides[axis], np.int64)))

    def starts(self, axes: Any, sizes: dict[int, int], clip: bool) -> None:
        """Places at which windows start, from the last axis of the indices; cut to the operand with `clip`."""
        new = [i for i in range(len(self.out)) if i in self.offsets]
        for at, axis in enumerate(axes):
            one = self.ctx.op("Gather", self.indices, self.ctx.number(at, np.int64), axis=self.rank)
            one = self.ctx.graph.unsqueeze(one, new)
            last = self.shape[axis] - sizes[axis]
            most = self.ctx.number(last, np.int64) if is_static([last]) else self.ctx.dims.length(last)
            zero = self.ctx.number(0, np.int64)
            wrong = self.ctx.op("Or", self.ctx.op("Less", one, zero), self.ctx.op("Greater", one, most))
            self.outside = wrong if self.outside is None else self.ctx.op("Or", self.outside, wrong)
            one = self.ctx.op("Max", self.ctx.op("Min", one, most), zero) if clip else one
            self.terms.append(self.ctx.op("Mul", one, self.ctx.number(self.strides[axis], np.int64)))

    def linear(self) -> str:
        """The places, in the shape of the result."""
        total = self.terms[0] if self.terms else self.ctx.number(0, np.int64)
        for term in self.terms[1:]:
            total = self.ctx.op("Add", total, term)
        return self.ctx.op("Expand", total, self.ctx.dims.shape(self.out))


REDUCTIONS = {"scatter": "none", "scatter_add": "add", "scatter_mul": "mul", "scatter_min": "min", "scatter_max": "max"}


@lowering("scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, indices, updates = args
    p, numbers = eqn.params, eqn.params["dimension_numbers"]
    batching, inserted = tuple(numbers.operand_batching_dims), tuple(numbers.inserted_window_dims)
    window = [i for i in range(len(x.shape)) if i not in (*inserted, *batching)]
    places = _Places(ctx, x.shape, updates.shape, indices, tuple(numbers.update_window_dims))
    places.batch(batching, numbers.scatter_indices_batching_dims)
    lengths = dict(zip(window, [updates.shape[i] for i in numbers.update_window_dims], strict=True))
    sizes = {i: lengths.get(i, 1) for i in range(len(x.shape))}
    places.starts(numbers.scatter_dims_to_operand_dims, sizes, clip=True)
    places.window(window)
    how = REDUCTIONS[eqn.primitive.name.replace("-", "_")]
    drops = p["mode"] not in (Mode.CLIP, Mode.PROMISE_IN_BOUNDS)
    outside = places.outside if drops else None
    return ctx.result(write_at(ctx, x, places.linear(), ctx.full(updates), outside, how), eqn)


def write_at(ctx: Context, x: Value, places: str, updates: str, outside: str | None, how: str) -> str:
    """A value with updates written at places of its flattened form; where `outside`, into a place that is cut off."""
    size = ctx.dims.length(math.prod(x.shape, start=1))
    logical = x.dtype == np.bool_
    kind = np.dtype(np.int32) if logical else x.dtype
    flat = ctx.placing.reshape(ctx.full(x), (-1,))
    if logical:
        flat, updates = ctx.graph.cast(flat, kind), ctx.graph.cast(updates, kind)
    updates = ctx.op("Reshape", updates, ctx.number([-1], np.int64))
    if outside is not None:
        places = ctx.op("Where", outside, size, places)
        flat = ctx.op("Concat", flat, ctx.number([0], kind), axis=0)
    places = ctx.op("Reshape", places, ctx.number([-1], np.int64))
    more = {} if how == "none" else {"reduction": how}
    done = ctx.op("ScatterElements", flat, places, updates, axis=0, **more)
    if outside is not None:
        zero = ctx.number([0], np.int64)
        done = ctx.op("Slice", done, zero, size, zero)
    done = ctx.op("Reshape", done, ctx.dims.shape(x.shape))
    return ctx.graph.cast(done, np.bool_) if logical else done


def _starts(ctx: Context, x: Value, lengths: Any, starts: list[Value]) -> list[str]:
    """Starts of a window in an array, each a tensor of one number, moved so that the window lies inside."""
    found = []
    for axis, start in enumerate(starts):
        name = ctx.graph.unsqueeze(ctx.graph.cast(ctx.full(start), np.int64), (0,))
        most = ctx.dims.length(x.shape[axis] - lengths[axis])
        found.append(ctx.op("Max", ctx.op("Min", name, most), ctx.number([0], np.int64)))
    return found


@lowering("dynamic_slice")
def _dynamic_slice(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, sizes = args[0], eqn.params["slice_sizes"]
    name = ctx.full(x)
    for axis, start in enumerate(_starts(ctx, x, sizes, args[1:])):
        if sizes[axis] == x.shape[axis]:
            continue
        end = ctx.op("Add", start, ctx.dims.length(sizes[axis]))
        name = ctx.op("Slice", name, start, end, ctx.number([axis], np.int64))
    return ctx.result(name, eqn)


@lowering("dynamic_update_slice")
def _dynamic_update_slice(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    x, update = args[0], args[1]
    out = ctx.full(update)
    whole = ctx.full(x)
    # Around the update stands what was there, axis by axis from the innermost of those where it is shorter.
    starts = _starts(ctx, x, update.shape, args[2:])
    short = [i for i in range(len(x.shape)) if update.shape[i] != x.shape[i]]
    for n, axis in reversed(list(enumerate(short))):
        around = whole
        for other in short[:n]:
            end = ctx.op("Add", starts[other], ctx.dims.length(update.shape[other]))
            around = ctx.op("Slice", around, starts[other], end, ctx.number([other], np.int64))
        at, end = ctx.number([axis], np.int64), ctx.op("Add", starts[axis], ctx.dims.length(update.shape[axis]))
        before = ctx.op("Slice", around, ctx.number([0], np.int64), starts[axis], at)
        after = ctx.op("Slice", around, end, ctx.dims.length(x.shape[axis]), at)
        out = ctx.op("Concat", before, out, after, axis=axis)
    assert onnx_dtype(eqn.outvars[0].aval.dtype) == x.dtype
    return ctx.result(out, eqn)
