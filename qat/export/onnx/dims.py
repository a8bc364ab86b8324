"""Lengths of axes in the graph: numbers, or expressions of a symbolic batch that are computed from its inputs."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qat.export.onnx.graph import Graph

OPERATORS: dict[type, str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
FUNCTIONS = {"max": "Max", "min": "Min", "floordiv": "Div", "mod": "Mod"}  # lengths are not negative


def is_static(shape: Iterable[Any]) -> bool:
    """Whether all lengths are numbers."""
    return all(isinstance(n, int | np.integer) for n in shape)


@dataclass(eq=False)
class Dims:
    """Lengths as tensors of one number; `places` has the input and the axis at which each symbol stands."""

    graph: Graph
    places: dict[str, tuple[str, int]] = field(default_factory=dict)

    def within(self, graph: Graph) -> "Dims":
        """The lengths seen from a subgraph."""
        return Dims(graph, self.places)

    def length(self, n: Any) -> str:
        """The name of an int64 tensor of one number."""
        if is_static([n]):
            return self.graph.constant(np.array([n], np.int64), "length")
        return self._expression(ast.parse(str(n), mode="eval").body)

    def shape(self, shape: Iterable[Any]) -> str:
        """The name of an int64 tensor that holds the lengths."""
        shape = tuple(shape)
        if is_static(shape):
            return self.graph.constant(np.array(shape, np.int64), "shape")
        return self.graph.op("Concat", *[self.length(n) for n in shape], axis=0)

    def target(self, shape: Iterable[Any]) -> str:
        """The target of a Reshape: a single symbolic length is left to it."""
        shape = tuple(shape)
        symbolic = [n for n in shape if not is_static([n])]
        if len(symbolic) == 1 and 0 not in [n for n in shape if is_static([n])]:
            return self.graph.constant(np.array([n if is_static([n]) else -1 for n in shape], np.int64), "shape")
        return self.shape(shape)

    def named(self, shape: Iterable[Any]) -> tuple[Any, ...]:
        """The shape as the declaration of an input or output has it: symbols and expressions as text."""
        return tuple(int(n) if is_static([n]) else str(n).replace(" ", "") for n in shape)

    def _expression(self, node: Any) -> str:
        if isinstance(node, ast.Constant):
            return self.length(node.value)
        if isinstance(node, ast.Name):
            name, axis = self.places[node.id]
            return self.graph.op("Shape", name, start=axis, end=axis + 1)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self.graph.op("Neg", self._expression(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return self.graph.op(OPERATORS[type(node.op)], self._expression(node.left), self._expression(node.right))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
            return self.graph.op("Pow", self._expression(node.left), self._expression(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            return self.graph.op(FUNCTIONS[node.func.id], *[self._expression(a) for a in node.args])
        raise ValueError(
            f"the symbolic length {ast.unparse(node)} cannot be computed in ONNX. Export with a fixed batch size."
        )
