"""Ways to run an exported file, one for each runtime: its outputs, and its codes where it lets one look."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat.export.description import Description, check_same_model, read_description
from qat.export.exported import read
from qat.export.exporter import Exportable
from qat.export.parity.codes import Place, Seen
from qat.export.runnable import Runnable
from qat.registry import parse_call


@dataclass(frozen=True)
class Route:
    """A way to run a file. `run(inputs)` gives the outputs as the program does, and the codes that can be seen;
    `fed(inputs, served)` the codes that each site makes of the served inputs of the sites before it.

    `weights` says by site whether the integer weights in the file are the model's. `unseen` has the reason for each
    site that nobody can look at.
    """

    name: str
    about: str
    run: Callable[[tuple[Any, ...]], Seen]
    _: KW_ONLY
    fed: Callable[[tuple[Any, ...], Seen], Mapping[Place, np.ndarray]] | None = None
    weights: Mapping[str, bool] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


type Opener = Callable[[Path, Description, Exportable, Sequence[str]], tuple[Route, ...]]
"""From a file, its description, its model and the runtimes asked for (none: all that are here) to its routes."""

OPENERS: dict[str, Opener] = {}
"""Openers by the name of the exporter; of others' files the program is run as `read` gives it, seen from outside."""


def opened(path: Path, exportable: Exportable, runtimes: Sequence[str] = ()) -> tuple[Description, tuple[Route, ...]]:
    """The description of an exported file and its routes.

    Raises `ValueError` where the file is damaged, of another model, or no program, and where a runtime is unknown or
    not installed.
    """
    description = read_description(path)
    check_same_model(path, description, exportable.variables)
    name = parse_call(description.kind)[0]
    if name in OPENERS:
        return description, OPENERS[name](path, description, exportable, runtimes)
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
