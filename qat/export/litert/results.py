"""Results that LiteRT wants quantized and the recipe leaves in float."""

import jax

from qat.core.jaxpr.graph import Graph, Node, Value, graph_of
from qat.core.operands import WeightOperand
from qat.core.plan import Plan
from qat.export.litert.annotate import Annotated, Result
from qat.export.litert.quantizers import channel_of
from qat.export.target_check import CLAMPS, MOVES, SAME, SHIFTS, check_target

TARGET = "litert-cpu"
# LiteRT gives the integer results of softmax, tanh and the logistic function one scale alone, 1/256 or 1/128.
SOFTMAX = {"exp"}
FIXED = {"tanh", "logistic"}


def float_results(one: Annotated, *inputs: object) -> tuple[Result, ...]:
    """The places where a quantizer lets a site run in integers: its result with bias and clamp, which LiteRT fuses."""
    check = check_target(one.q, one.converted, *inputs, target=TARGET)
    graph = graph_of(one.plan.jaxpr, len(jax.tree.leaves(one.converted.structure.abstract)))
    floats = {site.id for site in check.sites if site.runs == "float" and not site.recipe}
    places = []
    for site in one.plan.quantized.values():
        c = site.contraction
        static = all(o is not None for o in site.operands) and not any(
            a.spec.dynamic for _, a in site.activations.values()
        )
        if c.id in floats and static and c.op != "embedding" and c.location in graph.at:
            node, split = (
                graph.at[c.location],
                any(
                    isinstance(o, WeightOperand) and channel_of(one.converted.weights[o.key]) == "several"
                    for o in site.operands
                ),
            )
            # Where the result's channels are split along axes, LiteRT adds the bias in an operator of its own.
            end = node if split else fused_end(one.plan, graph, node)
            if graph.shapes[end.makes[0]] and not meets_fixed_scale(one.plan, graph, end):
                places.append(Result(c.id, end.location))
    return tuple({place.location: place for place in places}.values())


def fused_end(plan: Plan, graph: Graph, node: Node) -> Node:
    """The last node of a site with what LiteRT fuses into it: a bias, then clamps by constants."""
    # Invariant: all that reads the values before `node` is fused into the site.
    while True:
        value = node.makes[0]
        readers = graph.readers.get(value, [])
        if len(readers) != 1 or value in graph.outputs or not _is_fused(plan, graph, readers[0], value):
            return node
        node = readers[0]


def _is_fused(plan: Plan, graph: Graph, node: Node, value: Value) -> bool:
    if node.location in plan.quantized or len(node.makes) != 1:
        return False
    others = [v for v in node.reads if v != value]
    if node.name in SAME:
        return True
    return node.name in SHIFTS | CLAMPS and bool(others) and all(v in graph.known for v in others)


def meets_fixed_scale(plan: Plan, graph: Graph, node: Node) -> bool:
    """Whether a node's result goes to an operator whose integer form has a fixed scale, and a recipe's grid follows:
    with integers before and behind, that operator would be an integer one of a scale that LiteRT refuses."""
    values, seen = list(node.makes), set(node.makes)
    # Invariant: `seen` holds all values between the node and quantized sites that were or will be looked at.
    while values:
        for reader in graph.readers.get(values.pop(), ()):
            if reader.location in plan.quantized:
                continue
            if reader.name in SOFTMAX or (reader.name in FIXED and _is_quantized(plan, graph, reader)):
                return True
            new = [v for v in reader.makes if v not in seen]
            values += new
            seen.update(new)
    return False


def _is_quantized(plan: Plan, graph: Graph, node: Node) -> bool:
    """Whether a site quantizes a node's result, through operations that move values alone."""
    readers = [reader for value in node.makes for reader in graph.readers.get(value, ())]
    return any(r.location in plan.quantized or (r.name in MOVES and _is_quantized(plan, graph, r)) for r in readers)
