"""Cold starts: processes that load an exported file and run it once, with their time and their memory.

This file is also what such a process runs, by its path and not as a module: nothing of the package is loaded there,
which an application does not need either.
"""

import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INPUTS = "inputs.npz"


@dataclass(frozen=True)
class Cold:
    """The seconds of a fresh process from its start to its end with the first result, and the most bytes it held."""

    seconds: float
    bytes: int


def measure(path: Path, runtime: str, inputs: Sequence[np.ndarray], names: Sequence[str], threads: int | None) -> Cold:
    """The cold start of an exported file in a process that loads its runtime and nothing of this package.

    Raises `ValueError` where the process failed, with its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        arrays: dict[str, Any] = dict(zip(names, inputs, strict=True))
        np.savez(Path(folder) / INPUTS, **arrays)
        # -P: the folder of this file holds `onnx`, which must not hide the package of that name
        return measured(["-P", __file__, runtime, str(path), str(Path(folder) / INPUTS), str(threads or 0)])


def measured(arguments: Sequence[str]) -> Cold:
    """The cold start of a process of this Python that writes its most bytes in its last line."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no error told"])[-1]
        raise ValueError(f"the process of {' '.join(arguments)} failed: {said}.")
    return Cold(seconds, int(done.stdout.splitlines()[-1]))


PEAK = "VmHWM:"


def most_bytes() -> int:
    """The most bytes of memory that this process held since it was started."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(PEAK))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run(runtime: str, path: str, inputs: str, threads: str) -> None:
    """Load a file and run it once on arrays by the names of its inputs."""
    with np.load(inputs) as found:
        arrays = dict(found)
    if runtime == "onnxruntime":
        # The session that is timed when warm, from a file that needs nothing of the package.
        session = runpy.run_path(str(Path(__file__).parent / "onnx" / "session.py"))["ort_session"]
        session(path, int(threads)).run(None, arrays)
    elif runtime.startswith("openvino"):
        sys.modules["openvino_telemetry"] = None  # pyright: ignore[reportArgumentType]  # nobody is told of the model
        import openvino

        settings = {} if runtime.endswith("default") else {"INFERENCE_PRECISION_HINT": "f32"}
        settings |= {"INFERENCE_NUM_THREADS": int(threads)} if int(threads) else {}
        openvino.Core().compile_model(path, "CPU", settings)(arrays)
    else:
        import jax

        exported = jax.export.deserialize(bytearray(Path(path).read_bytes()))
        jax.block_until_ready(jax.jit(exported.call)(*arrays.values()))


if __name__ == "__main__":
    run(*sys.argv[1:])
    sys.stdout.write(f"{most_bytes()}\n")
