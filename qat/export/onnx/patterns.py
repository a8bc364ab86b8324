"""Compositions that ONNX has one operator for: means, Softmax, LayerNormalization, Gelu."""

import math

import numpy as np

from qat.export.onnx.graph import Graph, Node

GELU_OPSET = 20


def join_patterns(graph: Graph) -> None:
    """Put one operator in the place of each composition; what it was made of is left for dead code."""
    for node in graph.nodes:
        for sub in node.subgraphs:
            join_patterns(sub)
    # In order of evaluation, so that a mean is one operator before a normalization looks for it.
    for node in graph.nodes:
        for match in (_mean, _softmax, _layer_norm, _gelu):
            found = match(graph, node)
            if found is not None:
                _replace(graph, node, found)
                break


def _replace(graph: Graph, node: Node, made: Node) -> None:
    """Make a node another one, under its result's name."""
    node.op, node.inputs, node.attributes = made.op, made.inputs, made.attributes
    node.size = made.size


def _number(graph: Graph, name: str) -> float | None:
    array = graph.constant_of(name)
    return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind == "f" else None


def _behind(graph: Graph, name: str) -> Node | None:
    """The node that makes a tensor, apart from axes of length one that come back."""
    node = graph.producer(name)
    while node is not None and node.op == "Unsqueeze":
        node = graph.producer(node.inputs[0])
    return node


def _axes(graph: Graph, node: Node | None, op: str) -> tuple[int, ...] | None:
    """The axes of a reduction of this kind, None of another node."""
    if node is None or node.op != op:
        return None
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"])
    array = graph.constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if array is None else tuple(int(n) for n in array)


def _mean(graph: Graph, node: Node) -> Node | None:
    if node.op not in ("Div", "Mul"):
        return None
    for x, by in (node.inputs, node.inputs[::-1]):
        total, number = graph.producer(x), _number(graph, by)
        if node.op == "Div" and x != node.inputs[0]:
            continue
        squeezed = total
        if total is not None and total.op == "Squeeze":
            total = graph.producer(total.inputs[0])
        axes = _axes(graph, total, "ReduceSum")
        if total is None or axes is None or number is None or total.size is None:
            continue
        factor = number if node.op == "Mul" else 1 / number if number else 0
        if abs(factor * total.size - 1) > 1e-6:
            continue
        keep = int(squeezed is total)
        if graph.root.opset >= 18:
            return Node("ReduceMean", list(total.inputs), [], {"keepdims": keep}, size=total.size)
        return Node("ReduceMean", total.inputs[:1], [], {"axes": list(axes), "keepdims": keep}, size=total.size)
    return None


def _softmax(graph: Graph, node: Node) -> Node | None:
    if node.op != "Div":
        return None
    top, total = (graph.producer(name) for name in node.inputs)
    axes = _axes(graph, total, "ReduceSum")
    if top is None or total is None or top.op != "Exp" or axes is None or len(axes) != 1:
        return None
    shifted = graph.producer(top.inputs[0])
    if total.inputs[0] != top.output or shifted is None or shifted.op != "Sub":
        return None
    largest = graph.producer(shifted.inputs[1])
    if largest is None or _axes(graph, largest, "ReduceMax") != axes or largest.inputs[0] != shifted.inputs[0]:
        return None
    return Node("Softmax", [shifted.inputs[0]], [], {"axis": axes[0]})


def factors(graph: Graph, name: str) -> tuple[float, list[str]]:
    """A tensor as the product of a number and of tensors."""
    node = graph.producer(name)
    if (number := _number(graph, name)) is not None:
        return number, []
    if node is not None and node.op == "Neg":
        number, rest = factors(graph, node.inputs[0])
        return -number, rest
    if node is not None and node.op == "Mul":
        parts = [factors(graph, x) for x in node.inputs]
        return parts[0][0] * parts[1][0], [*parts[0][1], *parts[1][1]]
    if node is not None and node.op == "Div" and (number := _number(graph, node.inputs[1])):
        first, rest = factors(graph, node.inputs[0])
        return first / number, rest
    return 1.0, [name]


def _layer_norm(graph: Graph, node: Node) -> Node | None:
    bias = None
    product = node
    if node.op == "Add":
        for x, other in (node.inputs, node.inputs[::-1]):
            maker, array = graph.producer(x), graph.constant_of(other)
            if maker is not None and maker.op == "Mul" and array is not None:
                product, bias = maker, array
    if product.op != "Mul" or (node.op == "Add" and bias is None):
        return None
    parts = _raw_factors(graph, product)
    gains = [a for p in parts if (a := graph.constant_of(p)) is not None]
    others = [p for p in parts if graph.constant_of(p) is None]
    if len(gains) != 1 or len(others) != 2:
        return None
    for centred, inverse in (others, others[::-1]):
        found = _normalized(graph, centred, inverse)
        if found is not None:
            return _layer_norm_node(graph, found, gains[0], bias)
    return None


def _raw_factors(graph: Graph, node: Node) -> list[str]:
    parts = []
    for name in node.inputs:
        maker = graph.producer(name)
        parts += _raw_factors(graph, maker) if maker is not None and maker.op == "Mul" else [name]
    return parts


Normalized = tuple[str, tuple[int, ...], int, float]


def _normalized(graph: Graph, centred: str, inverse: str) -> Normalized | None:
    """Input, axes, their size and epsilon, where the tensors are `x - mean(x)` and `1 / sqrt(variance + epsilon)`."""
    shift, ratio = graph.producer(centred), graph.producer(inverse)
    if shift is None or shift.op != "Sub" or ratio is None or ratio.op != "Div" or _number(graph, ratio.inputs[0]) != 1:
        return None
    x, mean = shift.inputs[0], _behind(graph, shift.inputs[1])
    axes = _axes(graph, mean, "ReduceMean")
    if mean is None or axes is None or len(axes) != 1 or mean.inputs[0] != x or not mean.size:
        return None
    root = graph.producer(ratio.inputs[1])
    total = graph.producer(root.inputs[0]) if root is not None and root.op == "Sqrt" else None
    if total is None or total.op != "Add":
        return None
    for variance, other in (total.inputs, total.inputs[::-1]):
        epsilon = _number(graph, other)
        if epsilon is not None and _is_variance(graph, variance, x, mean.output, centred, axes):
            return x, axes, mean.size, epsilon
    return None


def _is_variance(graph: Graph, name: str, x: str, mean: str, centred: str, axes: tuple[int, ...]) -> bool:
    node = _behind(graph, name)
    if node is not None and node.op == "Relu":
        node = _behind(graph, node.inputs[0])
    if node is None:
        return False
    if _axes(graph, node, "ReduceMean") == axes:
        return _is_square(graph, node.inputs[0], centred)
    if node.op != "Sub":
        return False
    squares, square = _behind(graph, node.inputs[0]), node.inputs[1]
    if squares is None or _axes(graph, squares, "ReduceMean") != axes:
        return False
    return _is_square(graph, squares.inputs[0], x) and _is_square(graph, square, mean)


def _is_square(graph: Graph, name: str, of: str) -> bool:
    node = graph.producer(name)
    return node is not None and node.op == "Mul" and node.inputs == [of, of]


def _layer_norm_node(graph: Graph, found: Normalized, gain: np.ndarray, bias: np.ndarray | None) -> Node | None:
    x, (axis,), size, epsilon = found
    inputs = [x]
    for array in (gain, bias):
        if array is None:
            continue
        if array.ndim != axis + 1 or any(n > 1 for n in array.shape[:-1]):
            return None
        inputs.append(graph.constant(np.broadcast_to(array.reshape(-1), (size,))))
    return Node("LayerNormalization", inputs, [], {"axis": -1, "epsilon": epsilon})


def _gelu(graph: Graph, node: Node) -> Node | None:
    if node.op != "Mul":
        return None
    number, parts = factors(graph, node.output)
    if not math.isclose(number, 0.5, rel_tol=1e-5) or len(parts) != 2:
        return None
    for x, gate in (parts, parts[::-1]):
        for kind, matches in (("none", _is_normal_cdf), ("tanh", _is_tanh_cdf)):
            if matches(graph, gate, x):
                return _gelu_node(graph, x, kind)
    return None


def _gelu_node(graph: Graph, x: str, kind: str) -> Node | None:
    if graph.root.opset >= GELU_OPSET:
        return Node("Gelu", [x], [], {"approximate": kind})
    return None


def _one_plus(graph: Graph, gate: str, op: str) -> tuple[float, str] | None:
    """Sign and argument where the tensor is one plus or minus a function of it."""
    node = graph.producer(gate)
    if node is None or node.op not in ("Add", "Sub"):
        return None
    for one, other in (node.inputs, node.inputs[::-1]):
        inner = graph.producer(other)
        if (
            _number(graph, one) == 1
            and inner is not None
            and inner.op == op
            and (node.op == "Add" or one == node.inputs[0])
        ):
            return (1.0 if node.op == "Add" else -1.0), inner.inputs[0]
    return None


def _is_normal_cdf(graph: Graph, gate: str, x: str) -> bool:
    found = _one_plus(graph, gate, "Erf")
    if found is None:
        return False
    number, parts = factors(graph, found[1])
    return parts == [x] and math.isclose(number * found[0], math.sqrt(0.5), rel_tol=1e-5)


def _is_tanh_cdf(graph: Graph, gate: str, x: str) -> bool:
    found = _one_plus(graph, gate, "Tanh")
    if found is None or found[0] < 0:
        return False
    number, parts = factors(graph, found[1])
    node = graph.producer(parts[0]) if len(parts) == 1 else None
    if node is None or node.op != "Add" or not math.isclose(number, math.sqrt(2 / math.pi), rel_tol=1e-4):
        return False
    for first, second in (node.inputs, node.inputs[::-1]):
        cubic, thrice = factors(graph, second)
        if first == x and thrice == [x, x, x] and math.isclose(cubic, 0.044715, rel_tol=1e-4):
            return True
    return False
