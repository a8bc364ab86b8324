"""The converter of StableHLO to LiteRT, a process of a Python that has it: its packages exclude some of ours."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VARIABLE = "QAT_LITERT_PYTHON"
PACKAGE = "litert-converter==0.5.0"
REMEDY = (
    f"Make an environment for it, python -m venv litert && litert/bin/pip install {PACKAGE}, and set {VARIABLE} to the "
    "path of litert/bin/python."
)
SCRIPT = Path(__file__).with_name("convert_module.py")
MOST_SECONDS = 1800
MOST_SIGNS = 600  # of the converter's own message


def converter_python() -> str:
    """The Python that has litert-converter: the one that the environment's QAT_LITERT_PYTHON names, else this one.

    Raises `ValueError` where there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise ValueError(f"{VARIABLE} must be the path of a Python that has {PACKAGE}, got {named!r}. {REMEDY}")
        return named
    if importlib.util.find_spec("litert_converter") is not None:
        return sys.executable
    raise ValueError(f"the exporter 'litert' needs {PACKAGE}, whose packages exclude some of ours. {REMEDY}")


def to_flatbuffer(module: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The LiteRT model of a StableHLO module, its inputs and outputs under these names.

    Raises `ValueError` with the converter's own words where it refuses the module.
    """
    python = converter_python()
    names = json.dumps({"inputs": list(inputs), "outputs": list(outputs)})
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "module.mlir"), Path(place, "model.tflite")
        source.write_bytes(module)
        told = _run([python, str(SCRIPT), str(source), str(target), names])
        if told.returncode or not target.exists() or not target.stat().st_size:
            raise ValueError(_refusal(python, told.stderr))
        return target.read_bytes()


def _run(command: list[str]) -> Any:
    # Paths of this process would show the other Python packages of this environment.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"the LiteRT converter did not end within {MOST_SECONDS // 60} minutes. Export a smaller model."
        ) from None
    except OSError as error:
        raise ValueError(
            f"the Python of the LiteRT converter, {command[0]!r}, does not run: {error}. {REMEDY}"
        ) from None


def _refusal(python: str, told: str) -> str:
    lines = [line for line in told.splitlines() if line.strip() and not line.startswith(("WARNING", "I0", "W0"))]
    if any("No module named 'litert_converter" in line for line in lines):
        return f"{python!r} ({VARIABLE}) has no litert-converter. {REMEDY}"
    errors = [line for line in lines if "error" in line.lower()] or lines
    said = " ".join(errors)[:MOST_SIGNS] or "it ended without a word"
    return f"the LiteRT converter ({PACKAGE}) does not take the model: {said}. Export it as StableHLO or ONNX instead."
