"""A traced function as a flat graph: its equations with plain calls opened, and who makes and reads each value.

What stands in a loop or branch stays inside one node: methods that reason over neighbours leave it alone.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Location

CONTROL = {"scan", "while", "cond"}

Value = int
"""The number of a value of the graph; the first ones are the function's inputs."""


@dataclass(frozen=True)
class Node:
    """An equation at a location, with the values that it reads and makes, and the name scopes around it."""

    location: Location
    equation: Any
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    names: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.equation.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """The equation's parameters."""
        return self.equation.params


@dataclass
class Graph:
    """The nodes in order of evaluation, by value its shape, constants by value, values that depend on parameters and
    constants alone (`known`), of these the first leaf that each is made of (`origins`), and those that the function
    returns. The first `leaves` values are the parameters' leaves."""

    leaves: int
    nodes: list[Node] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    constants: dict[Value, Any] = field(default_factory=dict)
    known: set[Value] = field(default_factory=set)
    origins: dict[Value, int] = field(default_factory=dict)
    outputs: tuple[Value, ...] = ()

    @cached_property
    def maker(self) -> dict[Value, Node]:
        """The node that makes each value; none of inputs and constants."""
        return {value: node for node in self.nodes for value in node.makes}

    @cached_property
    def readers(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, each once."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.reads):
                found.setdefault(value, []).append(node)
        return found

    @cached_property
    def at(self) -> dict[Location, Node]:
        """The node at each location."""
        return {node.location: node for node in self.nodes}

    def values(self, leaves: list[Any], wanted: set[Value]) -> dict[Value, Any]:
        """Evaluate known values from the parameters' leaves."""
        env = {**dict(enumerate(leaves)), **self.constants}
        # Invariant: `needed` holds the values still to be made for what is wanted; going backwards, a value's makers
        # come after all of its readers, so that one pass finds them all.
        needed, plan = set(wanted), []
        for node in reversed(self.nodes):
            if needed & set(node.makes):
                plan.append(node)
                needed |= set(node.reads)
        for node in reversed(plan):
            env.update(zip(node.makes, layouts.bind(node.equation, [env[v] for v in node.reads]), strict=True))
        return {value: env[value] for value in wanted}


def graph_of(jaxpr: Any, leaves: int) -> Graph:
    """The graph of a traced function whose first inputs are that many leaves of parameters."""
    inner, consts = layouts.open_jaxpr(jaxpr)
    graph = Graph(leaves)
    inputs = [_new(graph, v.aval) for v in inner.invars]
    graph.known.update(inputs[:leaves])
    graph.origins.update({value: value for value in inputs[:leaves]})
    opened = layouts.INLINED | layouts.REMAT
    graph.outputs = tuple(_open(graph, jaxpr, inputs, [_constant(graph, c) for c in consts], (), "", opened))
    return graph


Origins = list[tuple[bool, int | None]]
"""For each input of a jaxpr whether it depends on parameters and constants alone, and the leaf that it is made of."""


def scopes_of(jaxpr: Any, leaves: int, layer_scans: Collection[Location]) -> list[Graph]:
    """The graphs of a traced function and of every remat, loop and branch in it, the values of each being its own.

    What only a scan slices is known inside of `layer_scans` alone: any other scan may add a row to each step.
    """
    origins: Origins = [
        (i < leaves, i if i < leaves else None) for i in range(len(layouts.open_jaxpr(jaxpr)[0].invars))
    ]
    return list(_scopes(jaxpr, origins, (), "", layer_scans))


def _scopes(
    jaxpr: Any, origins: Origins, at: Location, names: str, layer_scans: Collection[Location]
) -> Iterator[Graph]:
    inner, consts = layouts.open_jaxpr(jaxpr)
    graph = Graph(0)
    inputs = [_new(graph, v.aval) for v in inner.invars]
    for value, (known, leaf) in zip(inputs, origins, strict=True):
        graph.known.update([value] if known else [])
        graph.origins.update({value: leaf} if leaf is not None else {})
    made = _open(graph, jaxpr, inputs, [_constant(graph, c) for c in consts], at, names, layouts.INLINED)
    graph.outputs = tuple(made)
    yield graph
    for node in graph.nodes:
        for where, body, passed in _bodies(node, layer_scans):
            given = [(False, None) if v is None else (v in graph.known, graph.origins.get(v)) for v in passed]
            yield from _scopes(body, given, (*node.location, where), node.names, layer_scans)


def _bodies(node: Node, layer_scans: Collection[Location]) -> Iterator[tuple[str, Any, Sequence[Value | None]]]:
    """The jaxprs in a node that can be rewritten, each with its name and the values passed in, None where they change
    from one iteration to the next."""
    p, reads = node.params, list(node.reads)
    if node.name in layouts.REMAT:
        yield "call", layouts.inlined_jaxpr(node.equation), reads
    elif node.name == "cond":
        yield from ((f"branches[{i}]", branch, reads[1:]) for i, branch in enumerate(p["branches"]))
    elif node.name == "while":
        n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
        yield "call", p["body_jaxpr"], [*reads[n:m], *[None] * len(reads[m:])]
    elif node.name == "scan":
        s = layouts.scan_layout(node.equation)
        slices = reads[s.consts + s.carry :]
        in_layers = node.location in layer_scans
        yield "call", s.body, [*reads[: s.consts], *[None] * s.carry, *(v if in_layers else None for v in slices)]


def _new(graph: Graph, aval: Any) -> Value:
    graph.shapes.append(tuple(getattr(aval, "shape", ())))
    return len(graph.shapes) - 1


def _constant(graph: Graph, x: Any) -> Value:
    graph.shapes.append(np.shape(x))
    value = len(graph.shapes) - 1
    graph.constants[value] = x
    graph.known.add(value)
    return value


def _open(
    graph: Graph,
    jaxpr: Any,
    inputs: list[Value],
    consts: list[Value],
    at: Location,
    names: str,
    opened: Collection[str],
) -> list[Value]:
    inner, _ = layouts.open_jaxpr(jaxpr)
    env = dict(zip([*inner.constvars, *inner.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> Value:
        return _constant(graph, atom.val) if layouts.is_literal(atom) else env[atom]

    for index, eqn in enumerate(inner.eqns):
        reads, here = [read(v) for v in eqn.invars], (*at, index)
        scope = f"{names}/{eqn.source_info.name_stack}"
        if eqn.primitive.name in opened:
            body = layouts.inlined_jaxpr(eqn)
            own = [_constant(graph, c) for c in layouts.open_jaxpr(body)[1]]
            # A plain call adds no node: its values are those of its body, at the locations that rewriting knows.
            makes = _open(graph, body, reads, own, (*here, "call"), scope, opened)
        else:
            makes = [_new(graph, v.aval) for v in eqn.outvars]
            node = Node(here, eqn, tuple(reads), tuple(makes), names=scope)
            graph.nodes.append(node)
            # As where sites are found, what a loop or branch makes is never known.
            if all(v in graph.known for v in reads) and not eqn.effects and node.name not in CONTROL:
                graph.known.update(makes)
                made_of = [graph.origins[v] for v in reads if v in graph.origins]
                graph.origins.update(dict.fromkeys(makes, made_of[0]) if made_of else {})
        env.update(zip(eqn.outvars, makes, strict=True))
    return [read(v) for v in inner.outvars]


KEEPING = {"convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier"}
"""Primitives whose result has the axes of their operand."""


@dataclass(frozen=True)
class Spread:
    """A parameter leaf as it is laid along a value's axes: for each of these the leaf's axis, or None."""

    leaf: Value
    axes: tuple[int | None, ...]


def spread_leaf(graph: Graph, value: Value) -> Spread | None:
    """The leaf that a value is, cast, transposed, or repeated along new axes, and nothing else; None of all others.

    A leaf that anything else reads as well is none: what changes it would change more than this value.
    """
    if len(graph.readers.get(value, ())) != 1 or value in graph.outputs:
        return None
    if value < graph.leaves:
        return Spread(value, tuple(range(len(graph.shapes[value]))))
    node = graph.maker.get(value)
    if node is None:
        return None
    before = spread_leaf(graph, node.reads[0])
    axes = moved_axes(graph, node, node.reads[0]) if before else None
    if before is None or axes is None:
        return None
    return Spread(before.leaf, tuple(None if axis is None else before.axes[axis] for axis in axes))


def moved_axes(graph: Graph, node: Node, value: Value) -> tuple[int | None, ...] | None:
    """The axis of `value`, a node's one operand, that each axis of the result is; None where the node does more
    than to move axes, add or drop axes of length one, or repeat."""
    before, after = graph.shapes[value], graph.shapes[node.makes[0]]
    if node.name in KEEPING:
        return tuple(range(len(before)))
    if node.name == "transpose":
        return tuple(node.params["permutation"])
    if node.name == "broadcast_in_dim":
        kept = {to: axis for axis, to in enumerate(node.params["broadcast_dimensions"]) if before[axis] == after[to]}
        return tuple(kept.get(axis) for axis in range(len(after)))
    if node.name in ("reshape", "squeeze", "expand_dims"):
        # Axes longer than one keep their order; where their lengths are as before, each is the one that it was.
        long = [axis for axis, n in enumerate(before) if n != 1]
        if [before[axis] for axis in long] != [n for n in after if n != 1]:
            return None
        rest = iter(long)
        return tuple(next(rest) if n != 1 else None for n in after)
    return None
