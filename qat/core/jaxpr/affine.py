"""Contractions followed by scales and shifts that parameters alone decide, and both made one: found and rewritten.

`(x @ w - mean) * factor + bias` is `x @ (w * factor) + (bias - mean * factor)`, where the factor has one value for each
column of `w`: the float function stays equal, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Contraction, Location
from qat.core.jaxpr.graph import Graph, Node, Value, moved_axes
from qat.core.jaxpr.rewrite import Rewriting, rewrite

Axes = tuple[int | None, ...]
"""For each axis of a value the weight's axis that it is, or None."""

SHIFTS = {"add", "add_any", "sub"}
FACTORS = {"mul", "div"}
MOVES = {"transpose", "broadcast_in_dim", "reshape", "squeeze", "expand_dims"}


@dataclass(frozen=True)
class Step:
    """An equation that scales, shifts, casts or lays out anew the result of a contraction.

    `known` is the operand that parameters decide, None where there is none; `axes` are those of the value that it
    reads.
    """

    location: Location
    name: str
    known: int | None
    _: KW_ONLY
    axes: Axes


@dataclass(frozen=True)
class Chain:
    """A contraction with a weight on a `side`, and the steps that follow it, whose last one gives an array of `axes`.
    `names` are the name scopes of the step that scales."""

    contraction: Contraction
    side: int
    steps: tuple[Step, ...]
    _: KW_ONLY
    axes: Axes
    names: str
    origin: int

    @property
    def end(self) -> Location:
        """The place of the last step."""
        return self.steps[-1].location


def chains_of(graphs: Sequence[Graph], contractions: Sequence[Contraction]) -> list[Chain]:
    """The chains of a function, those whose steps scale by parameters, in order of evaluation."""
    sites = {c.location: c for c in contractions}
    found = [
        _chain(graph, node, sites[node.location]) for graph in graphs for node in graph.nodes if node.location in sites
    ]
    return [chain for chain in found if chain is not None]


def _chain(graph: Graph, node: Node, c: Contraction) -> Chain | None:
    side = next((i for i, o in enumerate(c.operands) if o.is_weight), None)
    if c.op not in ("dot_general", "conv") or side is None or all(o.is_weight for o in c.operands):
        return None
    if c.op == "conv" and (side == 0 or c.params["batch_group_count"] != 1):
        return None
    value, axes, steps, kept, scale = node.makes[0], _result_axes(c, side), [], None, None
    # Invariant: `value` is the contraction's result after `steps`, and nothing but the next step reads it.
    while (reader := only_reader(graph, value)) and (known := _known(graph, reader, value, axes)) is not None:
        step = Step(reader.location, reader.name, None if known < 0 else known, axes=axes)
        steps.append(step)
        axes, value = _axes_after(graph, reader, value, axes), reader.makes[0]
        leaf = None if step.known is None else graph.origins.get(reader.reads[step.known])
        if leaf is not None:
            # What only constants change is no part of a norm: the chain ends at its last parameter.
            kept = len(steps), axes
            if reader.name in FACTORS and any(_varies(graph, reader.reads[step.known or 0])):
                scale = reader.names, leaf
    if kept is None or scale is None:
        return None
    return Chain(c, side, tuple(steps[: kept[0]]), axes=kept[1], names=scale[0], origin=scale[1])


def only_reader(graph: Graph, value: Value) -> Node | None:
    """The one node that reads a value, once; None where there are others or the value is a result."""
    readers = graph.readers.get(value, [])
    if len(readers) != 1 or value in graph.outputs or readers[0].reads.count(value) != 1:
        return None
    return readers[0]


def _result_axes(c: Contraction, side: int) -> Axes:
    if c.op == "conv":
        numbers = c.params["dimension_numbers"]
        return tuple(numbers.rhs_spec[0] if i == numbers.out_spec[1] else None for i in range(len(c.out_shape)))
    summed, batched = c.params["dimension_numbers"]
    free = [[i for i in range(len(c.operands[n].shape)) if i not in (*summed[n], *batched[n])] for n in (0, 1)]
    others: list[int | None] = [None] * len(free[1 - side])
    own: list[int | None] = [*free[side]]
    return (*batched[side], *(own if side == 0 else others), *(others if side == 0 else own))


def _known(graph: Graph, node: Node, value: Value, axes: Axes) -> int | None:
    """The known operand of a step, -1 where it needs none; None of a node that is no step."""
    if node.name in ("neg", "convert_element_type", "copy", "copy_p"):
        floats = all(
            jnp.issubdtype(v.aval.dtype, jnp.floating) for v in (*node.equation.invars, *node.equation.outvars)
        )
        return -1 if floats else None
    if node.name in MOVES:
        return -1 if _moves_whole(graph, node, value) else None
    if node.name not in SHIFTS | FACTORS or (node.name == "div" and node.reads[0] != value):
        return None
    known = 1 - node.reads.index(value)
    other = node.reads[known]
    if other not in graph.known or graph.shapes[value] != graph.shapes[node.makes[0]]:
        return None
    varies = _varies(graph, other)
    return known if all(axis is not None for axis, v in zip(axes, varies, strict=False) if v) else None


def _moves_whole(graph: Graph, node: Node, value: Value) -> bool:
    """Whether a node lays a value out anew and repeats nothing."""
    moved = moved_axes(graph, node, value)
    after = graph.shapes[node.makes[0]]
    return moved is not None and all(n == 1 for n, axis in zip(after, moved, strict=True) if axis is None)


def _axes_after(graph: Graph, node: Node, value: Value, axes: Axes) -> Axes:
    moved = moved_axes(graph, node, value) if node.name in MOVES else None
    return axes if moved is None else tuple(None if axis is None else axes[axis] for axis in moved)


def _varies(graph: Graph, value: Value) -> tuple[bool, ...]:
    """Whether a known value may differ along each of its axes."""
    node, shape = graph.maker.get(value), graph.shapes[value]
    if node is not None and node.name == "broadcast_in_dim":
        inner = _varies(graph, node.reads[0])
        before, placed = graph.shapes[node.reads[0]], node.params["broadcast_dimensions"]
        own = {to: inner[axis] and before[axis] == shape[to] for axis, to in enumerate(placed)}
        return tuple(own.get(axis, False) for axis in range(len(shape)))
    return tuple(n != 1 for n in shape)


@dataclass(frozen=True)
class _Pending:
    """A contraction that waits for the end of its chain: its equation with the arrays and names that it had, the
    equations that lay its result out anew, and what multiplies it and is added to it, in the weight's layout."""

    equation: Any
    arrays: list[Any]
    names: Any
    _: KW_ONLY
    moves: tuple[Any, ...]
    factor: Array
    shift: Array


def with_scaled_weights(jaxpr: Any, chains: Sequence[Chain], args: list[Any]) -> list[Any]:
    """Outputs of `jaxpr` with the weight of each chain scaled before its contraction, which is computed where the chain
    ends, with one shift after it."""
    steps = {step.location: (chain, step) for chain in chains for step in chain.steps}
    starts = {chain.contraction.location: chain for chain in chains}

    def handler(c: Contraction, eqn: Any, arrays: list[Any], operands: Any, carried: Any, scope: dict[Any, Any]):
        if c.location in starts:
            chain = starts[c.location]
            scope[c.location] = _begun(chain, eqn, arrays)
        else:
            chain, step = steps[c.location]
            start = chain.contraction.location
            scope[start] = _after(scope[start], step, eqn, arrays)
            if c.location == chain.end:
                return _result(scope.pop(start), chain, eqn.outvars[0].aval.dtype), carried
        # Nothing reads this value: the next step takes the contraction from the scope.
        out = eqn.outvars[0].aval
        return jnp.zeros(out.shape, out.dtype), carried

    sites = {at: chain.contraction for at, chain in starts.items()}
    sites |= {at: replace(chain.contraction, location=at) for at, (chain, _) in steps.items()}
    return rewrite(Rewriting(sites, handler, {}), jaxpr, args, {}, {})[0]


def _begun(chain: Chain, eqn: Any, arrays: list[Any]) -> _Pending:
    weight = arrays[chain.side]
    one = jnp.ones((1,) * weight.ndim, jnp.float64 if weight.dtype == jnp.float64 else jnp.float32)
    return _Pending(eqn, arrays, layouts.current_names(), moves=(), factor=one, shift=jnp.zeros_like(one))


def _after(pending: _Pending, step: Step, eqn: Any, arrays: list[Any]) -> _Pending:
    factor, shift = pending.factor, pending.shift
    if step.known is None:
        if step.name in MOVES:
            return replace(pending, moves=(*pending.moves, eqn))
        return replace(pending, factor=-factor, shift=-shift) if step.name == "neg" else pending
    known = _on_weight(arrays[step.known].astype(factor.dtype), step.axes, factor.ndim)
    if step.name == "mul":
        return replace(pending, factor=factor * known, shift=shift * known)
    if step.name == "div":
        return replace(pending, factor=factor / known, shift=shift / known)
    if step.name == "sub":
        return (
            replace(pending, shift=shift - known)
            if step.known
            else replace(pending, factor=-factor, shift=known - shift)
        )
    return replace(pending, shift=shift + known)


def _on_weight(known: Array, axes: Axes, ndim: int) -> Array:
    """A value along the axes of a contraction's result, laid along those of its weight."""
    if known.ndim == 0:
        return known.reshape((1,) * ndim)
    shape, order = [1] * ndim, sorted((axis, i) for i, axis in enumerate(axes) if axis is not None)
    for axis, i in order:
        shape[axis] = known.shape[i]
    for i, axis in enumerate(axes):
        known = jax.lax.slice_in_dim(known, 0, 1, axis=i) if axis is None else known
    rest = [i for i, axis in enumerate(axes) if axis is None]
    return known.transpose([*rest, *(i for _, i in order)]).reshape(shape)


def _on_result(shift: Array, axes: Axes) -> Array:
    """The inverse: a value along a weight's axes, laid along those of the result."""
    used = [axis for axis in axes if axis is not None]
    shape = [1 if axis is None else shift.shape[axis] for axis in axes]
    return shift.transpose([*(i for i in range(shift.ndim) if i not in used), *used]).reshape(shape)


def _result(pending: _Pending, chain: Chain, dtype: Any) -> Array:
    arrays, side = list(pending.arrays), chain.side
    weight = arrays[side]
    # Barriers, so that both are computed once, in the same way in every program: they decide integers.
    factor, shift = (jax.lax.optimization_barrier(x) for x in (pending.factor, pending.shift))
    arrays[side] = (weight.astype(factor.dtype) * factor).astype(weight.dtype)
    with layouts.named(pending.names):
        out = layouts.bind(pending.equation, arrays)[0]
        for move in pending.moves:
            out = layouts.bind(move, [out])[0]
    return (out.astype(shift.dtype) + _on_result(shift, chain.axes)).astype(dtype)
