"""An ONNX graph in the making: nodes in order of evaluation, initializers stored once, equal nodes made once."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

REDUCTIONS_WITH_AXES_INPUT = 18  # the opset from which all reductions take their axes as an input, as ReduceSum does


def onnx_dtype(dtype: Any) -> np.dtype:
    """The dtype that a tensor of a traced function has in the graph: half precision is computed in float32."""
    kind = np.dtype(dtype)
    return np.dtype(np.float32) if kind in (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)) else kind


@dataclass(eq=False)
class Node:
    """One operation; an attribute may be a `Graph`. `scales` are those of a product of two quantized operands, in the
    order of its channels, by which a bias is stored as integers; `bias` is what joined it. `size` is the number of
    values that a reduction joins, where known."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    scales: np.ndarray | None = None
    bias: np.ndarray | None = None
    size: int | None = None

    @property
    def output(self) -> str:
        """The first of its results."""
        return self.outputs[0]

    @property
    def subgraphs(self) -> list["Graph"]:
        """The graphs among its attributes."""
        return [a for a in self.attributes.values() if isinstance(a, Graph)]

    def reads(self) -> Iterator[str]:
        """The tensors that it reads, those that its subgraphs take from outside included."""
        yield from (name for name in self.inputs if name)
        for graph in self.subgraphs:
            for node in graph.nodes:
                yield from node.reads()
            yield from graph.outputs


@dataclass(eq=False)
class Root:
    """State that a graph shares with its subgraphs: opset, initializers by name and by content, names in use, the
    number of `uses` of a weight in products, and notes."""

    opset: int
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    by_content: dict[Any, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def fresh(self, stem: str) -> str:
        """A name that is not in use, from a stem."""
        number = self.counts.get(stem, 0)
        self.counts[stem] = number + 1
        return f"{stem}_{number}" if number else stem


@dataclass(eq=False)
class Graph:
    """Nodes, and the names and dtypes of what goes in and out; a subgraph may read tensors of its `parent`."""

    root: Root
    parent: "Graph | None" = None
    nodes: list[Node] = field(default_factory=list)
    inputs: list[tuple[str, np.dtype, tuple[Any, ...] | None]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    output_types: list[tuple[np.dtype, tuple[Any, ...] | None]] = field(default_factory=list)
    made: dict[Any, Node] = field(default_factory=dict)
    producers: dict[str, Node] = field(default_factory=dict)

    def producer(self, name: str) -> Node | None:
        """The node here, or outside of a subgraph, that makes a tensor; None for inputs and initializers."""
        graph: Graph | None = self
        while graph is not None:
            if name in graph.producers:
                return graph.producers[name]
            graph = graph.parent
        return None

    def constant(self, array: Any, stem: str = "const", owner: str = "") -> str:
        """The name of an initializer that holds the array; equal ones of one owner are stored once."""
        array = np.asarray(array)
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (owner, str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self.root.by_content:
            name = self.root.fresh(stem)
            self.root.by_content[key] = name
            self.root.initializers[name] = array
        return self.root.by_content[key]

    def constant_of(self, name: str) -> np.ndarray | None:
        """The array of an initializer, None for any other tensor."""
        return self.root.initializers.get(name)

    def emit(self, op: str, inputs: Iterable[str | None], outputs: int = 1, **attributes: Any) -> list[str]:
        """Names of a node's results; a node equal to an earlier one is that one."""
        read = [name or "" for name in inputs]
        while read and not read[-1]:
            read.pop()
        key = (op, tuple(read), outputs, repr(sorted(attributes.items())))
        reusable = not any(isinstance(a, Graph) for a in attributes.values())
        if reusable and (found := self._made(key)) is not None:
            return found.outputs
        node = Node(op, read, [self.root.fresh(op.lower()) for _ in range(outputs)], attributes)
        self.add(node)
        if reusable:
            self.made[key] = node
        return node.outputs

    def _made(self, key: Any) -> Node | None:
        graph: Graph | None = self
        while graph is not None:
            if key in graph.made:
                return graph.made[key]
            graph = graph.parent
        return None

    def add(self, node: Node) -> None:
        """Append a node."""
        self.nodes.append(node)
        self.producers.update(dict.fromkeys(node.outputs, node))

    def op(self, op: str, *inputs: str | None, **attributes: Any) -> str:
        """The only result of a node."""
        return self.emit(op, inputs, **attributes)[0]

    def unsqueeze(self, name: str, axes: Iterable[int]) -> str:
        """A tensor with new axes of length one at these places; taking them out before is undone."""
        axes = tuple(axes)
        if not axes:
            return name
        maker = self.producer(name)
        if maker is not None and maker.op == "Squeeze" and self._ints(maker.inputs[1]) == axes:
            return maker.inputs[0]
        return self.op("Unsqueeze", name, self.constant(np.array(axes, np.int64), "axes"))

    def squeeze(self, name: str, axes: Iterable[int]) -> str:
        """A tensor without these axes, which have length one."""
        axes = tuple(axes)
        return self.op("Squeeze", name, self.constant(np.array(axes, np.int64), "axes")) if axes else name

    def transpose(self, name: str, perm: Iterable[int]) -> str:
        """A tensor with its axes in another order; transposing before is joined with it."""
        perm = tuple(perm)
        maker = self.producer(name)
        if maker is not None and maker.op == "Transpose":
            inner = maker.attributes["perm"]
            name, perm = maker.inputs[0], tuple(inner[p] for p in perm)
        if perm == tuple(range(len(perm))):
            return name
        return self.op("Transpose", name, perm=list(perm))

    def reduce(self, op: str, name: str, axes: Iterable[int]) -> str:
        """A reduction over axes, which stay with length one."""
        axes = sorted(axes)
        if op == "ReduceSum" or self.root.opset >= REDUCTIONS_WITH_AXES_INPUT:
            return self.op(op, name, self.constant(np.array(axes, np.int64), "axes"), keepdims=1)
        return self.op(op, name, axes=axes, keepdims=1)

    def cast(self, name: str, dtype: Any) -> str:
        """A tensor cast to a NumPy dtype."""
        return self.op("Cast", name, to=np.dtype(dtype))

    def subgraph(self) -> "Graph":
        """A graph inside this one."""
        return Graph(self.root, parent=self)

    def note(self, text: str) -> None:
        """Tell the user of something, once."""
        if text not in self.root.notes:
            self.root.notes.append(text)

    def _ints(self, name: str) -> tuple[int, ...] | None:
        array = self.constant_of(name)
        return None if array is None else tuple(int(n) for n in array)


def remove_dead(graph: Graph, also: Iterable[str] = ()) -> None:
    """Drop the nodes of a graph, and of its subgraphs, that nothing reads and that make none of the tensors `also`."""
    wanted, alive = {*graph.outputs, *also}, []
    for node in reversed(graph.nodes):
        if wanted.isdisjoint(node.outputs):
            continue
        for sub in node.subgraphs:
            remove_dead(sub)
        wanted.update(node.reads())
        alive.append(node)
    graph.nodes[:] = reversed(alive)


def readers(graph: Graph) -> dict[str, int]:
    """Counts of the reads of each tensor: by nodes here, inside their subgraphs, and as a result of the graph."""
    counts: dict[str, int] = {}
    for name in (*graph.outputs, *(name for node in graph.nodes for name in node.reads())):
        counts[name] = counts.get(name, 0) + 1
    return counts
