"""A traced function as a flat graph: its equations with plain calls opened, and who makes and reads each value.

What stands in a loop or branch stays inside one node: methods that reason over neighbours leave it alone.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Location

Value = int
"""The number of a value of the graph; the first ones are the function's inputs."""


@dataclass(frozen=True)
class Node:
    """An equation at a location, with the values that it reads and makes."""

    location: Location
    equation: Any
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]

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
    constants alone, and those that the function returns. The first `leaves` values are the parameters' leaves."""

    leaves: int
    nodes: list[Node] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    constants: dict[Value, Any] = field(default_factory=dict)
    known: set[Value] = field(default_factory=set)
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
    graph.outputs = tuple(_open(graph, jaxpr, inputs, [_constant(graph, c) for c in consts], ()))
    return graph


def _new(graph: Graph, aval: Any) -> Value:
    graph.shapes.append(tuple(getattr(aval, "shape", ())))
    return len(graph.shapes) - 1


def _constant(graph: Graph, x: Any) -> Value:
    graph.shapes.append(np.shape(x))
    value = len(graph.shapes) - 1
    graph.constants[value] = x
    graph.known.add(value)
    return value


def _open(graph: Graph, jaxpr: Any, inputs: list[Value], consts: list[Value], at: Location) -> list[Value]:
    inner, _ = layouts.open_jaxpr(jaxpr)
    env = dict(zip([*inner.constvars, *inner.invars], [*consts, *inputs], strict=True))

    def read(atom: Any) -> Value:
        return _constant(graph, atom.val) if layouts.is_literal(atom) else env[atom]

    for index, eqn in enumerate(inner.eqns):
        reads, here = [read(v) for v in eqn.invars], (*at, index)
        if eqn.primitive.name in layouts.INLINED or eqn.primitive.name in layouts.REMAT:
            body = layouts.inlined_jaxpr(eqn)
            own = [_constant(graph, c) for c in layouts.open_jaxpr(body)[1]]
            # A plain call adds no node: its values are those of its body, at the locations that rewriting knows.
            makes = _open(graph, body, reads, own, (*here, "call"))
        else:
            makes = [_new(graph, v.aval) for v in eqn.outvars]
            graph.nodes.append(Node(here, eqn, tuple(reads), tuple(makes)))
            if all(v in graph.known for v in reads) and not eqn.effects:
                graph.known.update(makes)
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
