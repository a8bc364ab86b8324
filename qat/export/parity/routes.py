"""Ways to run an exported file, one for each runtime that it is for."""

from collections.abc import Sequence
from pathlib import Path

import jax

from qat.export.description import Description, check_same_model, read_description
from qat.export.exported import read
from qat.export.exporter import Exportable
from qat.export.parity.codes import Route, Seen
from qat.export.parity.onnx_routes import open_onnx
from qat.export.runnable import Runnable
from qat.registry import parse_call


def opened(path: Path, exportable: Exportable, runtimes: Sequence[str] = ()) -> tuple[Description, tuple[Route, ...]]:
    """The description of an exported file and its routes.

    Raises `ValueError` where the file is damaged, of another model, or no program, and where a runtime is unknown or
    not installed.
    """
    description = read_description(path)
    check_same_model(path, description, exportable.variables)
    name = parse_call(description.kind)[0]
    if name == "onnx":
        return description, open_onnx(path, description, exportable, runtimes)
    if runtimes and tuple(runtimes) != (name,):
        raise ValueError(f"a file of the exporter {name!r} runs in {name} alone, got {', '.join(runtimes)}.")
    program = read(path)
    if not isinstance(program, Runnable):
        raise ValueError(
            f"{str(path)!r} holds no program, only a model's values ({description.kind}). Export the model as a "
            "program, such as stablehlo or onnx, to compare how it runs."
        )
    return description, (Route(name, _about(name), lambda inputs: Seen(jax.device_get(program(*inputs)))),)


def _about(name: str) -> str:
    return f"XLA, jax {jax.__version__}, {jax.default_backend()}" if name == "stablehlo" else name
