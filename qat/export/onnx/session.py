"""Sessions of ONNX Runtime on the CPU, set up so that integer products are exact on every x64 CPU."""

import collections
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Without it the usual kernel adds two products of unsigned and signed codes in 16 bits on CPUs without VNNI: results
# are wrong.
EXACT = "session.x64quantprecision"
# Weights of 4 bits multiply activations in float32 (1), which it rounds to 8 bits by default (4).
FOUR_BIT_ACCURACY = "session.qdq_matmulnbits_accuracy_level"
REPLACED = "Attempt to replace the existing tensor"
FATAL_ALONE = 4  # of what it logs


def ort_session(
    content: bytes | str,
    threads: int | None = None,
    optimized: str | Path | None = None,
    *,
    profile: str | None = None,
    exact: bool = True,
) -> Any:
    """An `onnxruntime.InferenceSession` of a model's bytes, or of the file at a path, on the CPU, with as many threads
    as it chooses by default.

    `optimized` is where it writes the graph that it runs, `profile` the path's start of a file of its operators' times.
    Without `exact`, CPUs without VNNI instructions take a faster kernel whose sums saturate, and activations that
    weights of 4 bits multiply are rounded to 8 bits. Raises `ModuleNotFoundError` that names the extra where ONNX
    Runtime is missing.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "running ONNX files needs the package onnxruntime: pip install 'jax-qat[onnx]'", name=error.name
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ALONE  # it warns where it writes the graph, and tells errors that it raises
    options.intra_op_num_threads = threads or 0
    if exact:
        options.add_session_config_entry(EXACT, "1")
        options.add_session_config_entry(FOUR_BIT_ACCURACY, "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its kinds of errors have no common class but this
        if not exact or REPLACED not in str(error):
            raise
    return onnxruntime.InferenceSession(own_weights(content), options, providers=["CPUExecutionProvider"])


def own_weights(content: bytes | str) -> bytes:
    """The model with a copy of its integer weights for each operator that reads them, directly or dequantized: the
    exact products of ONNX Runtime refuse layers that share a weight."""
    import onnx

    model = onnx.load_from_string(content) if isinstance(content, bytes) else onnx.load(content)
    made = itertools.count()
    for graph in _graphs(model.graph):
        _own_weights(graph, lambda name: f"{name}_own_{next(made)}")
    return model.SerializeToString()


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside of it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _own_weights(graph: Any, fresh: Callable[[str], str]) -> None:
    import onnx

    weights = {one.name: one for one in graph.initializer if one.data_type == onnx.TensorProto.INT8}
    readers = collections.defaultdict(list)
    for node in graph.node:
        for i, name in enumerate(node.input):
            readers[name].append((node, i))
    for node in list(graph.node):
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            for reader, i in readers[node.output[0]][1:]:
                again = onnx.NodeProto()
                again.CopyFrom(node)
                again.name = again.output[0] = reader.input[i] = fresh(node.output[0])
                graph.node.insert(0, again)
    seen = set()
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in weights and name in seen:
                own = graph.initializer.add()
                own.CopyFrom(weights[name])
                own.name = node.input[i] = fresh(name)
            seen.add(name)
