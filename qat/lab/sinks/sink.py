"""The interface of a sink: a function from a trial's description to an open run, which receives the trial's results."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.runs.record import Record
from qat.registry import Registry
from qat.tasks.metric import Metric

type Row = Mapping[str, Any]
"""An operand of a site of the model, with its numbers; see `qat.lab.runs.layers.operands_in`."""


@dataclass(frozen=True)
class Origin:
    """The trial that a run belongs to: a trial of a study in the folder `root`; `key` changes with whatever its result
    depends on, `metrics` are its task's.
    """

    study: str
    trial: str
    key: str
    labels: Mapping[str, str]
    config: ExperimentConfig
    root: Path
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True)
class Run:
    """A trial's run in a sink. One of `finish` and `failed` must end it; nothing is told after that.

    `metrics(stage, step, values)` comes with rising steps of each stage, every point once. `finish(record, layers)` has
    a row for every quantized operand, none for a float arm. All may raise: `together` sees to it.
    """

    metrics: Callable[[str, int, Mapping[str, float]], None]
    finish: Callable[[Record, Sequence[Row]], None]
    failed: Callable[[str], None]


type Sink = Callable[[Origin], Run]
"""Opens the run of a trial."""

sinks: Registry[Sink] = Registry("sink")
"""Sinks by name."""
register = sinks.register
"""Make a function that returns a `Sink` known under its name; use as a decorator."""


def require(package: str, extra: str) -> None:
    """Raise `ValueError` with the command that installs a sink's package where it is missing."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"sink {extra!r} needs the package {package}. Install it: pip install 'jax-qat[{extra}]'")


def flat_config(origin: Origin) -> dict[str, Any]:
    """The settings by dotted path, with the trial's name and key."""
    flat: dict[str, Any] = {"study": origin.study, "trial": origin.trial, "key": origin.key}
    for name, value in origin.config.model_dump(mode="json").items():
        flat |= {f"{name}.{part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def final_numbers(record: Record) -> dict[str, float]:
    """The outcome under the names that sinks show: `test/accuracy`, `size_bytes`, `seconds`."""
    metrics = {f"test/{name}": value for name, value in record.metrics.items()}
    return {**metrics, "size_bytes": record.size_bytes, **record.timings}
