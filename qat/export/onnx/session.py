"""Sessions of ONNX Runtime on the CPU, set up so that integer products are exact on every x64 CPU."""

from pathlib import Path
from typing import Any

# Without it the usual kernel adds two products of unsigned and signed codes in 16 bits on CPUs without VNNI: results
# are wrong.
EXACT = "session.x64quantprecision"
# Weights of 4 bits multiply activations in float32 (1), which it rounds to 8 bits by default (4).
FOUR_BIT_ACCURACY = "session.qdq_matmulnbits_accuracy_level"
WARNINGS_AND_ABOVE, ERRORS_AND_ABOVE = 2, 3


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
    options.log_severity_level = ERRORS_AND_ABOVE  # it warns where it writes the optimized graph
    options.intra_op_num_threads = threads or 0
    if exact:
        options.add_session_config_entry(EXACT, "1")
        options.add_session_config_entry(FOUR_BIT_ACCURACY, "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
