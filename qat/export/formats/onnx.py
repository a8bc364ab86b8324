"""ONNX: a graph of quantized operands that ONNX Runtime, OpenVINO and others fuse into integer operators."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.export.description import Description
from qat.export.exporter import BATCH, DYNAMIC, ArraySpec, Artifact, Exportable, Exporter, register, with_axes
from qat.export.onnx.export import OPSETS, OnnxModel, to_onnx
from qat.export.onnx.session import EXACT, ort_session
from qat.export.runnable import Runnable

EXTRA = "onnx"
OVERFLOWS = f"On x64 CPUs without VNNI set {EXACT}=1 in ONNX Runtime: its usual int8 kernel overflows there."


@register
def onnx(opset: int = 21, four_bits: bool = True, float_biases: bool = False) -> Exporter:
    """A graph for ONNX Runtime, OpenVINO and TensorRT, with quantized operands around each product that they fuse.

    Weight-only weights of up to 4 bits are INT4 from opset 21 on, with `four_bits`. With
    `float_biases` all codes are the served ones, and convolutions with a bias run in float: a reference, not fast.
    """
    if not isinstance(opset, int) or not OPSETS[0] <= opset <= OPSETS[1]:
        raise ValueError(f"`opset` must be in [{OPSETS[0]}, {OPSETS[1]}], got {opset!r}.")
    return Exporter(
        ".onnx", lambda one: _build(one, opset, four_bits, float_biases), _load, packages=("onnx",), extra=EXTRA
    )


def _build(exportable: Exportable, opset: int, four_bits: bool, float_biases: bool) -> Artifact:
    dynamic = exportable.batch == DYNAMIC
    inputs = exportable.inputs if dynamic else with_axes(exportable, {0: exportable.batch})
    model = to_onnx(
        exportable.model,
        exportable.variables,
        *inputs,
        opset=opset,
        dynamic_batch=dynamic,
        four_bits=four_bits,
        float_biases=float_biases,
    )
    graph = model.proto.graph
    return Artifact(
        model.proto.SerializeToString(deterministic=True),
        {one.name: _spec(one) for one in graph.input},
        {one.name: _spec(one) for one in graph.output},
        notes=(*model.notes, *([OVERFLOWS] if exportable.recipe is not None else ())),
        sites=_sites(model),
    )


def _sites(model: OnnxModel) -> dict[str, str]:
    """The tensor in the graph that holds each quantized site's result."""
    return {site: outputs.result for site, outputs in model.sites.items()}


def _spec(info: Any) -> ArraySpec:
    from onnx import helper

    kind = info.type.tensor_type
    shape = tuple(n.dim_value if n.HasField("dim_value") else n.dim_param or BATCH for n in kind.shape.dim)
    return ArraySpec(shape, str(np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type))))


def _load(path: Path, description: Description) -> Runnable:
    """The graph run by ONNX Runtime on the CPU; one output as it is, several as a dict by name."""
    try:
        session = ort_session(path.read_bytes())
    except ModuleNotFoundError as error:
        raise ValueError(f"reading {str(path)!r} is not possible: {error}") from None

    def run(*inputs: Any) -> Any:
        arrays = map(np.asarray, jax.tree.leaves(inputs))
        found = session.run(None, dict(zip(description.inputs, arrays, strict=True)))
        return found[0] if len(found) == 1 else dict(zip(description.outputs, found, strict=True))

    return Runnable(description, run)
