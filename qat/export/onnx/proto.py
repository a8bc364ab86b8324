"""Graphs as ONNX protocol buffers; the one module that needs the package `onnx`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qat.export.onnx.graph import Graph, Node
from qat.fileio import write_atomically

TOO_LARGE = 2**31 - 1
# ONNX Runtime adds codes exactly, and packs weights, only where these are initializers of the graph that reads them.
READ_WEIGHTS = ("DequantizeLinear", "MatMulInteger", "ConvInteger")


def require_onnx() -> Any:
    """The package `onnx`. Raises `ModuleNotFoundError` that names the extra where it is missing."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "exporting to ONNX needs the package `onnx`: pip install 'jax-qat[onnx]'", name=error.name
        ) from error
    return onnx


def model_proto(graph: Graph, name: str) -> Any:
    """The `ModelProto` of a whole graph."""
    onnx = require_onnx()
    opset = onnx.helper.make_opsetid("", graph.root.opset)
    proto = _graph_proto(graph, name)
    proto.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in _used(graph).items())
    ir = onnx.helper.find_min_ir_version_for([opset])
    return onnx.helper.make_model(proto, opset_imports=[opset], ir_version=ir, producer_name="qat")


def _used(graph: Graph) -> dict[str, np.ndarray]:
    read = {name for node in graph.nodes for name in _outer_reads(node)} | set(graph.outputs)
    return {name: array for name, array in graph.root.initializers.items() if name in read}


def _outer_reads(node: Node) -> Iterator[str]:
    """The tensors that a node reads, and those that its subgraphs read and do not hold themselves."""
    yield from (name for name in node.inputs if name)
    for graph in node.subgraphs:
        for inner in graph.nodes:
            own = _own(graph, inner)
            yield from (name for name in _outer_reads(inner) if name not in own)
        yield from graph.outputs


def _own(graph: Graph, node: Node) -> set[str]:
    """The initializers of a subgraph that a node in it reads: codes of weights with their scales and zero points."""
    weights = node.op in READ_WEIGHTS and graph.parent is not None
    return {name for name in node.inputs if weights and graph.constant_of(name) is not None}


def _graph_proto(graph: Graph, name: str) -> Any:
    onnx = require_onnx()
    own = {x: f"{name}/{x}" for node in graph.nodes for x in sorted(_own(graph, node))}
    inputs = [_value_info(*one) for one in graph.inputs]
    types = zip(graph.outputs, graph.output_types, strict=True)
    outputs = [_value_info(out, dtype, shape) for out, (dtype, shape) in types]
    nodes = [_node_proto(node, f"{name}/{i}", own if _own(graph, node) else {}) for i, node in enumerate(graph.nodes)]
    stored = [onnx.numpy_helper.from_array(graph.root.initializers[x], new) for x, new in own.items()]
    return onnx.helper.make_graph(nodes, name, inputs, outputs, stored)


def _value_info(name: str, dtype: np.dtype, shape: tuple[Any, ...] | None) -> Any:
    onnx = require_onnx()
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)


def _node_proto(node: Node, name: str, renamed: Mapping[str, str]) -> Any:
    onnx = require_onnx()
    attributes = {}
    for key, value in node.attributes.items():
        if isinstance(value, Graph):
            attributes[key] = _graph_proto(value, f"{name}/{key}")
        elif isinstance(value, np.dtype):
            attributes[key] = onnx.helper.np_dtype_to_tensor_dtype(value)
        else:
            attributes[key] = value
    inputs = [renamed.get(x, x) for x in node.inputs]
    return onnx.helper.make_node(node.op, inputs, node.outputs, name=f"{name}/{node.op}", **attributes)


def checked(proto: Any) -> Any:
    """The model itself, if the whole of it passes ONNX's checker and its inference of shapes."""
    onnx = require_onnx()
    if proto.ByteSize() > TOO_LARGE:
        raise ValueError(
            f"the ONNX model has {proto.ByteSize()} bytes, over the 2 GiB that one file holds. Export a smaller model, "
            "or more of it in integers."
        )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def write(proto: Any, path: Path) -> None:
    """Write a checked model, whole or not at all."""
    write_atomically(path, checked(proto).SerializeToString())
