"""Operators that a runtime makes of an ONNX file: which multiply integers, and how long each takes."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qat.export.onnx.session import ort_session
from qat.export.sessions import Session, onnxruntime_session

INTEGER_OPS = {
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "QLinearAdd",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "ConvInteger",
    "MatMulNBits",
}
LAYERS = {"Convolution", "GroupConvolution", "FullyConnected", "MatMul"}
ADDITION = "/Add"  # in the names of nodes that our exporter writes
INTEGER_TYPES = {"u8", "i8"}
NO_PRODUCT = (":embedding:",)


@dataclass(frozen=True)
class OperatorTime:
    """An operator's name, its kind, the model's site whose result it makes (if that is known), and its milliseconds in
    one run: the median over several."""

    name: str
    op: str
    site: str | None
    ms: float


def product_sites(sites: Iterable[str]) -> int:
    """The number of sites that multiply or add, and not only look up."""
    return sum(not any(op in site for op in NO_PRODUCT) for site in sites)


def integer_operators(session: Session, content: bytes) -> int:
    """The number of operators of a session that multiply or add integers."""
    if hasattr(session.runtime_model, "get_runtime_model"):
        return sum(
            _is_integer_layer(node.get_rt_info()) for node in session.runtime_model.get_runtime_model().get_ops()
        )
    return sum(node.op_type in INTEGER_OPS for node in _optimized(content).graph.node)


def _is_integer_layer(info: Any) -> bool:
    names = ("layerType", "runtimePrecision", "originalLayersNames")
    try:
        kind, precision, made_of = (str(info[name].astype(str)) for name in names)
    except (RuntimeError, KeyError, TypeError):  # nodes without these
        return False
    is_product = kind in LAYERS or (kind == "Eltwise" and ADDITION in made_of)  # others are of truth values, in bytes
    return is_product and precision in INTEGER_TYPES


def _optimized(content: bytes) -> Any:
    """The graph as ONNX Runtime runs it on this machine."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        ort_session(content, optimized=path)
        return onnx.load(path)


def ort_times(
    content: bytes,
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    *,
    runs: int,
    threads: int | None,
    sites: Mapping[str, str],
) -> list[OperatorTime]:
    """The times of ONNX Runtime's operators by its own profiler, the longest first; `sites` have the tensor of each
    site's result."""
    made = {name: site for site, name in sites.items()}
    results = {node.name: list(node.output) for node in _optimized(content).graph.node}
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime_session(content, threads, str(Path(folder) / "profile"))
        for _ in range(runs):
            session.run(feeds, outputs)
        events = json.loads(Path(session.runtime_model.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            times.setdefault((name, event["args"].get("op_name", "")), []).append(event["dur"] / 1e3)
    found = []
    for (name, op), values in times.items():
        site = next((made[one] for one in results.get(name, []) if one in made), None)
        per_run = float(np.median(values)) * max(1, round(len(values) / runs))
        found.append(OperatorTime(name, op, site, per_run))
    return sorted(found, key=lambda one: -one.ms)
