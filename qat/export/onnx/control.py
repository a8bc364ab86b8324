"""Control flow: short loops are written out, others become Loop, and choices become If."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from qat.core.jaxpr import Location, layouts
from qat.export.onnx.context import Context, UnsupportedError, lowering
from qat.export.onnx.dims import is_static
from qat.export.onnx.graph import Graph, Node, onnx_dtype
from qat.export.onnx.shapes import END, cut
from qat.export.onnx.values import Value, constant, tensor

LONGEST_WRITTEN_OUT = 32


def _scan(ctx: Context, eqn: Any, args: list[Value], at: Location) -> list[Value]:
    s = layouts.scan_layout(eqn)
    layered = [key for key, places in (ctx.plan.slices if ctx.plan else {}).items() if at in places]
    if is_static([s.length]) and (layered or s.length <= LONGEST_WRITTEN_OUT):
        return _written_out(ctx, s, args, at, layered)
    return _looped(ctx, s, eqn, args, at)


def _written_out(ctx: Context, s: Any, args: list[Value], at: Location, layered: list[str]) -> list[Value]:
    consts, carry, xs = args[: s.consts], args[s.consts : s.consts + s.carry], args[s.consts + s.carry :]
    steps = range(s.length)
    rows: list[list[Value]] = []
    for i in reversed(steps) if s.reverse else steps:
        operands = {**ctx.operands, **{key: jax.tree.map(lambda x, i=i: x[i], ctx.operands[key]) for key in layered}}
        inside = replace(ctx, operands=operands, iterations=(*ctx.iterations, i))
        outs = ctx.run(inside, s.body, [*consts, *carry, *[_row(ctx, x, i) for x in xs]], (*at, "call"))
        carry = outs[: s.carry]
        rows.append(outs[s.carry :])
    if s.reverse:
        rows.reverse()
    results = [v.aval for v in layouts.open_jaxpr(s.body)[0].outvars][s.carry :]
    return [*carry, *[_stacked(ctx, [row[n] for row in rows], aval) for n, aval in enumerate(results)]]


def _row(ctx: Context, x: Value, i: int) -> Value:
    if x.dropped:
        return x
    if x.known:
        return constant(x.array()[i]) if is_static(x.shape) else constant(_at(x, i), x.shape[1:])
    return tensor(ctx.op("Gather", ctx.full(x), ctx.number(i, np.int64), axis=0), x.shape[1:], x.dtype)


def _at(x: Value, i: int) -> np.ndarray:
    assert x.constant is not None
    return x.constant[min(i, len(x.constant) - 1)]


def _stacked(ctx: Context, rows: list[Value], aval: Any) -> Value:
    shape = (len(rows), *aval.shape)
    if not rows:
        return constant(np.zeros(shape, onnx_dtype(aval.dtype)))
    if all(r.known for r in rows) and is_static(shape):
        return constant(np.stack([r.array() for r in rows]))
    if any(r.dropped for r in rows):
        return Value(shape, np.dtype(np.float32))
    names = [ctx.graph.unsqueeze(ctx.full(r), (0,)) for r in rows]
    return tensor(ctx.op("Concat", *names, axis=0), shape, aval.dtype)


def _looped(ctx: Context, s: Any, eqn: Any, args: list[Value], at: Location) -> list[Value]:
    consts, carry, xs = args[: s.consts], args[s.consts : s.consts + s.carry], args[s.consts + s.carry :]
    length = ctx.dims.length(s.length)
    last = ctx.op("Sub", length, ctx.number([1], np.int64))
    slices = [None if x.dropped else ctx.full(x) for x in xs]

    def body(inner: Context, step: str, carried: list[Value]) -> tuple[str | None, list[Value], list[Value]]:
        row = inner.op("Sub", inner.graph.squeeze(last, (0,)), step) if s.reverse else step
        rows = [
            x if name is None else tensor(inner.op("Gather", name, row, axis=0), x.shape[1:], x.dtype)
            for x, name in zip(xs, slices, strict=True)
        ]
        outs = ctx.run(inner, s.body, [*consts, *carried, *rows], (*at, "call"))
        return None, outs[: s.carry], outs[s.carry :]

    outs = _loop(ctx, body, carry, [v.aval for v in eqn.outvars], trips=ctx.graph.squeeze(length, (0,)))
    if not s.reverse:
        return outs
    flipped = [cut(ctx, ctx.full(y), 0, -1, -END, -1) for y in outs[s.carry :]]
    return [*outs[: s.carry], *[tensor(n, y.shape, y.dtype) for n, y in zip(flipped, outs[s.carry :], strict=True)]]


Body = Callable[[Context, str, list[Value]], tuple[str | None, list[Value], list[Value]]]


def _loop(
    ctx: Context, body: Body, carry: list[Value], avals: list[Any], trips: str | None = None, start: str | None = None
) -> list[Value]:
    """A Loop: `body(context, step, carried)` gives the condition (None: always), the carried values and rows."""
    graph = ctx.graph.subgraph()
    inner, root = ctx.within(graph), ctx.graph.root
    step, going = root.fresh("step"), root.fresh("going")
    graph.inputs = [(step, np.dtype(np.int64), ()), (going, np.dtype(np.bool_), ())]
    carried = []
    for aval in avals[: len(carry)]:
        name = root.fresh("carried")
        graph.inputs.append((name, onnx_dtype(aval.dtype), None))
        carried.append(tensor(name, aval.shape, aval.dtype))
    condition, new, rows = body(inner, step, carried)
    outs = [condition or inner.number(True, np.bool_), *[inner.full(v) for v in (*new, *rows)]]
    _close(graph, outs, [np.dtype(np.bool_), *[onnx_dtype(a.dtype) for a in avals]])
    names = ctx.graph.emit("Loop", [trips, start, *[ctx.full(v) for v in carry]], len(avals), body=graph)
    return [tensor(name, aval.shape, aval.dtype) for name, aval in zip(names, avals, strict=True)]


def _close(graph: Graph, names: list[str], dtypes: list[np.dtype]) -> None:
    """End a subgraph; its results must be made in it, each by a node of its own."""
    for name, dtype in zip(names, dtypes, strict=True):
        made = graph.root.fresh("out")
        graph.add(Node("Identity", [name], [made]))
        graph.outputs.append(made)
        graph.output_types.append((dtype, None))


def _while(ctx: Context, eqn: Any, args: list[Value], at: Location) -> list[Value]:
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def condition(inner: Context, carried: list[Value]) -> str:
        return inner.full(ctx.run(inner, p["cond_jaxpr"], [*args[:n], *carried], (*at, "cond_jaxpr"))[0])

    def body(inner: Context, step: str, carried: list[Value]) -> tuple[str | None, list[Value], list[Value]]:
        new = ctx.run(inner, p["body_jaxpr"], [*args[n:m], *carried], (*at, "call"))
        return condition(inner, new), new, []

    return _loop(ctx, body, args[m:], [v.aval for v in eqn.outvars], start=condition(ctx, args[m:]))


def _cond(ctx: Context, eqn: Any, args: list[Value], at: Location) -> list[Value]:
    branches = eqn.params["branches"]
    which = args[0]
    if which.known:
        chosen = int(np.clip(int(which.array()), 0, len(branches) - 1))
        return ctx.run(ctx, branches[chosen], args[1:], (*at, f"branches[{chosen}]"))
    return _choice(ctx, eqn, args, at, 0)


def _choice(ctx: Context, eqn: Any, args: list[Value], at: Location, n: int) -> list[Value]:
    """Branch `n` where the index is at most `n`, else one of the later ones."""
    branches, avals = eqn.params["branches"], [v.aval for v in eqn.outvars]
    if n == len(branches) - 1:
        return ctx.run(ctx, branches[n], args[1:], (*at, f"branches[{n}]"))
    index = ctx.full(args[0])
    if args[0].dtype == np.bool_:
        index = ctx.graph.cast(index, np.int32)
    kind = np.int32 if args[0].dtype == np.bool_ else args[0].dtype
    first = ctx.op("LessOrEqual", index, ctx.number(n, kind))
    graphs = []
    for write in (
        lambda inner: ctx.run(inner, branches[n], args[1:], (*at, f"branches[{n}]")),
        lambda inner: _choice(inner, eqn, args, at, n + 1),
    ):
        graph = ctx.graph.subgraph()
        inner = ctx.within(graph)
        outs = write(inner)
        _close(graph, [inner.full(v) for v in outs], [onnx_dtype(a.dtype) for a in avals])
        graphs.append(graph)
    names = ctx.graph.emit("If", [first], len(avals), then_branch=graphs[0], else_branch=graphs[1])
    return [tensor(name, aval.shape, aval.dtype) for name, aval in zip(names, avals, strict=True)]


@lowering("platform_index")
def _platform_index(ctx: Context, eqn: Any, args: list[Value]) -> Value:
    for i, names in enumerate(eqn.params["platforms"]):
        if names is None or "cpu" in names:
            return constant(np.int32(i))
    raise UnsupportedError("without a branch for CPUs")


CONTROL: dict[str, Callable[[Context, Any, list[Value], Location], list[Value]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
