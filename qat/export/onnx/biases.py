"""A constant added to a product becomes the bias of its Conv or Gemm: integers where both operands are quantized."""

import math

import numpy as np

from qat.export.onnx.graph import Graph, Node, readers

PRODUCTS = ("Conv", "Gemm")
LARGEST = 2**30  # of a bias as an integer: the sum of products is added to it in int32


def join_biases(graph: Graph, as_integers: bool = True) -> None:
    """Give products the constants that are added to them; those of quantized ones only `as_integers`."""
    for node in graph.nodes:
        for sub in node.subgraphs:
            join_biases(sub, as_integers)
    renamed: dict[str, str] = {}
    reads = readers(graph)
    own = {id(node) for node in graph.nodes}
    for node in graph.nodes:
        _rename(node, renamed)
        if node.op in ("Add", "Sub") and (found := _addition(graph, node, reads)) is not None:
            product, last, bias = found
            rounded = product.scales is not None
            if id(product) in own and (as_integers or not rounded) and _takes(graph, product, bias):
                renamed[node.output] = last
                reads[last] = reads.get(node.output, 0)
    graph.outputs[:] = [renamed.get(name, name) for name in graph.outputs]
    for node in graph.nodes:
        _rename(node, renamed)
    graph.nodes[:] = [n for node in graph.nodes for n in _with_bias(graph, node)]


def _rename(node: Node, renamed: dict[str, str]) -> None:
    node.inputs[:] = [renamed.get(name, name) for name in node.inputs]
    for sub in node.subgraphs:
        for inner in sub.nodes:
            _rename(inner, renamed)


def _addition(graph: Graph, node: Node, reads: dict[str, int]) -> tuple[Node, str, np.ndarray] | None:
    """The product that only this node reads, the tensor to which its result goes, and the bias."""
    left, right = node.inputs
    for x, other in ((left, right), (right, left)):
        added, maker = graph.constant_of(other), graph.producer(x)
        if added is None or maker is None or reads.get(x) != 1 or (node.op == "Sub" and x != left):
            continue
        shape = None
        if maker.op == "Reshape":
            shape, maker = graph.constant_of(maker.inputs[1]), graph.producer(maker.inputs[0])
            if shape is None or maker is None or maker.op != "Gemm" or reads.get(maker.output) != 1:
                continue
        if maker.op not in PRODUCTS:
            continue
        bias = _by_channel(maker, _channels(graph, maker), added, shape)
        if bias is not None:
            return maker, x, -bias if node.op == "Sub" else bias
    return None


def _channels(graph: Graph, product: Node) -> int | None:
    """The number of a product's columns or channels, where its weight is a constant."""
    name = product.inputs[1]
    while (maker := graph.producer(name)) is not None and maker.op in ("DequantizeLinear", "Mul", "Reshape"):
        if maker.op == "Reshape" and (shape := graph.constant_of(maker.inputs[1])) is not None:
            length = int(shape[0] if product.op == "Conv" else shape[-1])
            if length > 0:  # else its input has the same shape
                return length
        name = maker.inputs[0]
    weight = graph.constant_of(name)
    return None if weight is None else weight.shape[0 if product.op == "Conv" else -1]


def _by_channel(product: Node, n: int | None, added: np.ndarray, shape: np.ndarray | None) -> np.ndarray | None:
    """The constant as one number for each channel, None where it is not that."""
    if n is None or added.dtype != np.float32:
        return None
    if added.size == 1:
        return np.full(n, added.reshape(()), np.float32)
    if product.op == "Conv":
        places = [i for i, m in enumerate(added.shape) if m > 1]
        rank = 2 + len(product.attributes["kernel_shape"])
        return added.reshape(-1) if added.ndim == rank and places == [1] and added.size == n else None
    lengths = [0, n] if shape is None else [int(m) for m in shape]
    for k in range(1, len(lengths) + 1):
        if min(lengths[-k:]) > 0 and math.prod(lengths[-k:]) == n:
            inner, outer = added.shape[-k:], added.shape[:-k]
            if len(inner) == k and all(m == 1 for m in outer):
                return np.broadcast_to(added.reshape(inner), lengths[-k:]).reshape(-1)
    return None


def _takes(graph: Graph, product: Node, bias: np.ndarray) -> bool:
    """Add to a product's bias, unless its integers would overflow."""
    total = bias if product.bias is None else product.bias + bias
    if product.scales is not None:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            steps = np.abs(total.astype(np.float64) / product.scales)
        if not np.all(steps <= LARGEST):
            graph.note(
                f"the bias of {product.output} stays in float behind it: at its scale it does not fit 32-bit integers."
            )
            return False
    product.bias = total
    return True


def _with_bias(graph: Graph, node: Node) -> list[Node]:
    """The node with its bias as an input, and what makes that."""
    if node.bias is None:
        return [node]
    if node.scales is None:
        node.inputs.append(graph.constant(node.bias.astype(np.float32), "bias"))
        return [node]
    scales = np.broadcast_to(node.scales, node.bias.shape).astype(np.float32)
    whole = np.rint(node.bias.astype(np.float64) / scales).astype(np.int32)
    inputs = [graph.constant(whole, "bias"), graph.constant(scales)]
    made = Node("DequantizeLinear", inputs, [graph.root.fresh("dequantizelinear")], {"axis": 0})
    graph.producers[made.output] = made
    node.inputs.append(made.output)
    return [made, node]
