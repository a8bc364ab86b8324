"""Axes of channels, followed through contractions and through what scales with its operand."""

from collections.abc import Iterator

from qat.core.jaxpr.graph import Graph, Node, Value, moved_axes

CONTRACTIONS = {"dot_general", "conv_general_dilated"}
ALONG = {"neg", "abs", "reduce_sum", "reduce_max", "reduce_min", "reduce_window_sum", "reduce_window_max"}
"""Primitives of one array that scale with it, channel by channel."""


class LeftError(Exception):
    """Says why channels cannot be scaled."""


def contracted_axis(node: Node, side: int) -> int:
    """The one axis of an operand that is summed over, or a depthwise convolution's channels."""
    if node.name == "dot_general":
        summed, batched = node.params["dimension_numbers"]
        if len(summed[side]) != 1 or batched[0]:
            raise LeftError("it contracts several axes")
        return summed[side][0]
    if node.params["batch_group_count"] != 1 or side != 0:
        raise LeftError("it is no plain convolution")
    return node.params["dimension_numbers"].lhs_spec[1]


def back_axis(node: Node, side: int) -> int:
    """The axis of a weight that goes with the contracted axis of the other operand."""
    if node.name == "dot_general":
        return contracted_axis(node, side)
    out, into = node.params["dimension_numbers"].rhs_spec[:2]
    groups, kernel = node.params["feature_group_count"], node.equation.invars[1].aval.shape
    if groups == 1:
        return into
    if kernel[into] != 1 or kernel[out] != groups:
        raise LeftError("it is a convolution in groups of several channels")
    return out


def weight_axis(node: Node, graph: Graph, side: int, axis: int) -> int:
    """The axis of a weight that is an axis of its contraction's result."""
    if node.name == "conv_general_dilated":
        numbers = node.params["dimension_numbers"]
        if side != 1 or axis != numbers.out_spec[1]:
            raise LeftError("the layer before it has these channels on another axis")
        return numbers.rhs_spec[0]
    summed, batched = node.params["dimension_numbers"]
    shapes = [graph.shapes[v] for v in node.reads]
    free = [[i for i in range(len(shapes[n])) if i not in (*summed[n], *batched[n])] for n in (0, 1)]
    start = len(batched[0]) + (len(free[0]) if side else 0)
    if batched[0] or not start <= axis < start + len(free[side]):
        raise LeftError("the layer before it has these channels on another axis")
    return free[side][axis - start]


def axis_before(graph: Graph, node: Node, axis: int) -> int | None:
    """The operand's axis that is this one of the result, where the node scales with its operand; else None."""
    return next((i for i, to in _followed(graph, node, node.reads[0]) if to == axis), None)


def axis_after(graph: Graph, node: Node, value: Value, axis: int) -> int | None:
    """The result's axis that is this one of `value`, where the node may scale with it; else None."""
    if node.name in ("mul", "div", "max", "min", "add", "add_any", "select_n"):
        return axis if graph.shapes[value][axis] == graph.shapes[node.makes[0]][axis] else None
    return next((to for i, to in _followed(graph, node, value) if i == axis), None)


def _followed(graph: Graph, node: Node, value: Value) -> Iterator[tuple[int, int]]:
    """Pairs of an operand's axis and the result's that it is, of a node that scales with its one operand."""
    length = len(graph.shapes[value])
    if node.name.startswith("reduce_window"):
        if node.name in ALONG:
            yield from ((i, i) for i, n in enumerate(node.params["window_dimensions"]) if n == 1)
    elif node.name in ALONG:
        kept = [i for i in range(length) if i not in node.params.get("axes", ())]
        yield from ((i, to) for to, i in enumerate(kept))
    elif len(node.reads) == 1 and (moved := moved_axes(graph, node, value)) is not None:
        yield from ((i, to) for to, i in enumerate(moved) if i is not None)
