"""Quantized convolutions that ONNX Runtime leaves in float, by what reads their results."""

from collections.abc import Mapping

from qat.export.onnx.context import SiteOutputs
from qat.export.onnx.graph import Graph, Node

PASSED = ("Relu", "Clip", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "MaxPool", "Slice", "Identity")
"""Operators behind which a runtime that joins nodes still finds the QuantizeLinear of a convolution's result."""
SHOWN = 5


def float_convolutions(graph: Graph, sites: Mapping[str, SiteOutputs]) -> list[str]:
    """The ids of sites that are convolutions of static ranges whose result something reads in float. ONNX Runtime joins
    a convolution with the quantization of its result alone."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in set(node.reads()):
            readers.setdefault(name, []).append(node)
    results = set(graph.outputs)

    def is_quantized(name: str) -> bool:
        found = readers.get(name, [])
        if name in results or not found:
            return False
        if all(node.op == "QuantizeLinear" for node in found):
            return True
        return len(found) == 1 and found[0].op in PASSED and is_quantized(found[0].output)

    static = {node.output for node in graph.nodes if node.op == "Conv" and node.scales is not None}
    return [site for site, out in sites.items() if out.result in static and not is_quantized(out.result)]


def note_float_convolutions(graph: Graph, sites: Mapping[str, SiteOutputs]) -> None:
    """Tell which convolutions run in float, and why."""
    found = float_convolutions(graph, sites)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        graph.note(
            f"{len(found)} of the quantized convolutions run in float in ONNX Runtime, as float operators read their "
            f"results: {', '.join(found[:SHOWN])}{more}."
        )
