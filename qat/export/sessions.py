"""Sessions of runtimes of ONNX files: ONNX Runtime, and OpenVINO at a precision that is told."""

import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import numpy as np

from qat.export.onnx.session import ort_session
from qat.registry import did_you_mean

type Run = Callable[[Mapping[str, np.ndarray], Sequence[str]], dict[str, np.ndarray]]
"""From arrays by the names of inputs, and names of outputs, to these outputs."""


@dataclass(frozen=True)
class Session:
    """A model loaded by a runtime. `run` gives outputs; `about` tells version and precision, `outputs` their names.
    `runtime_model` is the runtime's own object."""

    run: Run
    about: str
    runtime_model: Any
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """A runtime of ONNX files: its package and the extra that installs it, and `load(content, threads)`, threads None
    for as many as it chooses."""

    package: str
    extra: str
    _: KW_ONLY
    load: Callable[..., Session]

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return importlib.util.find_spec(self.package) is not None


TELEMETRY = "openvino_telemetry"


def onnxruntime_session(content: bytes, threads: int | None = None, profile: str | None = None) -> Session:
    """A session of ONNX Runtime on the CPU, with exact sums on every CPU; `profile` is the path's start of a file of
    times of its operators."""
    session = ort_session(content, threads, profile=profile)

    def run(feeds: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        found = session.run(list(names), dict(feeds))
        return {name: np.asarray(x) for name, x in zip(names, found, strict=True)}

    about = f"ONNX Runtime {importlib.metadata.version('onnxruntime')}"
    return Session(run, about, session, tuple(one.name for one in session.get_outputs()))


def openvino_session(content: bytes, threads: int | None = None, precision: str | None = "f32") -> Session:
    """A session of OpenVINO on the CPU whose float parts are of a precision, None for the one that it chooses."""
    settings: dict[str, Any] = {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
    settings |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    with _untold():
        import openvino as ov

        core = ov.Core()
        compiled = core.compile_model(core.read_model(content), "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()

    def run(feeds: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
        results = compiled(dict(feeds))
        return {name: np.array(results[compiled.output(name)]) for name in names}

    about = f"OpenVINO {ov.__version__.split('-')[0]}, float parts in {used}"
    return Session(run, about, compiled, tuple(one.get_any_name() for one in compiled.outputs))


@contextmanager
def _untold() -> Iterator[None]:
    """Keep OpenVINO from telling its makers of the model that it reads: it would also fork this process, which has
    threads of XLA."""
    before = sys.modules.get(TELEMETRY)
    sys.modules[TELEMETRY] = None  # pyright: ignore[reportArgumentType]  # an import of it fails, which it expects
    try:
        yield
    finally:
        sys.modules.pop(TELEMETRY)
        sys.modules |= {} if before is None else {TELEMETRY: before}


RUNTIMES = {
    "onnxruntime": Runtime("onnxruntime", "onnx", load=onnxruntime_session),
    "openvino": Runtime("openvino", "openvino", load=openvino_session),
    "openvino-default": Runtime("openvino", "openvino", load=partial(openvino_session, precision=None)),
}
"""Runtimes by name: `openvino` computes float parts in float32, `openvino-default` as it chooses, often bfloat16."""
USUAL = ("onnxruntime", "openvino")


def chosen_runtimes(names: Sequence[str], usual: Sequence[str] = USUAL) -> list[str]:
    """The runtimes of these names, or of the usual ones those that are installed. Raises `ValueError` for an unknown
    one, and where one that is asked for, or all of the usual ones, are not installed."""
    for name in names:
        if name not in RUNTIMES:
            known = ", ".join(RUNTIMES)
            raise ValueError(f"Unknown runtime {name!r}. Known for ONNX: {known}.{did_you_mean(name, list(RUNTIMES))}")
        if not RUNTIMES[name].is_installed:
            raise ValueError(missing(name))
    found = list(names) or [name for name in usual if RUNTIMES[name].is_installed]
    if not found:
        raise ValueError(missing(usual[0]))
    return found


def missing(name: str) -> str:
    """Say what a runtime needs."""
    one = RUNTIMES[name]
    return (
        f"the runtime {name!r} needs the package {one.package}, which is not installed. Install what is missing: pip "
        f"install 'jax-qat[{one.extra}]'"
    )


@functools.cache
def saturates(name: str) -> bool:
    """Whether a runtime's sums of 8-bit products come out wrong on this machine: on CPUs without VNNI instructions
    kernels add pairs of products in 16 bits, which cut off what does not fit."""
    feeds = {"row": np.full((4, 8), 255, np.float32), "image": np.full((1, 8, 6, 6), 255, np.float32)}
    found = RUNTIMES[name].load(_probe().SerializeToString()).run(feeds, ["product", "map"])
    return bool((found["product"] != 8 * 255 * 127).any() or (found["map"] != 8 * 9 * 255 * 127).any())


def _probe() -> Any:
    """A graph of the largest codes there are: a matrix product and a convolution, dequantized by ones."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    def product(op: str, x: str, w: str, out: str) -> list[Any]:
        return [
            helper.make_node("QuantizeLinear", [x, "one", "u"], [f"{x}_codes"]),
            helper.make_node("DequantizeLinear", [f"{x}_codes", "one", "u"], [f"{x}_"]),
            helper.make_node("DequantizeLinear", [w, f"{w}_scale", f"{w}_zero"], [f"{w}_"]),
            helper.make_node(op, [f"{x}_", f"{w}_"], [out]),
        ]

    inputs = [("row", TensorProto.FLOAT, (4, 8)), ("image", TensorProto.FLOAT, (1, 8, 6, 6))]
    outputs = [("product", TensorProto.FLOAT, (4, 8)), ("map", TensorProto.FLOAT, (1, 8, 4, 4))]
    graph = helper.make_graph(
        [*product("Gemm", "row", "matrix", "product"), *product("Conv", "image", "kernel", "map")],
        "probe",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [
            constant("one", np.float32(1)),
            constant("u", np.uint8(0)),
            *(constant(f"{w}_scale", np.float32(1)) for w in ("matrix", "kernel")),
            *(constant(f"{w}_zero", np.int8(0)) for w in ("matrix", "kernel")),
            constant("matrix", np.full((8, 8), 127, np.int8)),
            constant("kernel", np.full((8, 8, 3, 3), 127, np.int8)),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
