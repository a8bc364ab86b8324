"""A finished trial's model as a file for another runtime; data are needed only where the task does not tell inputs."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat import tasks
from qat.data import in_order
from qat.export.exported import write
from qat.export.exporter import Batch, Exportable, Exported, ready
from qat.lab.experiment.exports import exportable_of
from qat.lab.inspect.trial import Trial, load_trial
from qat.lab.runs.models import exported_file
from qat.registry import parse_call


def export_trial(
    folder: str | Path,
    to: str,
    *,
    out: str | Path | None = None,
    batch: Batch | None = None,
    target: str | None = None,
    raw: bool = False,
    trust: bool = False,
) -> Exported:
    """Write the model of the finished trial in a folder by the exporter that `to` names, to `out` or to a file
    beside its record.

    A detector gives detections, or its network's outputs where they are wanted `raw`. Of `batch` and `target` see
    `qat.export_model`, of `trust` `load_trial`. Raises `ValueError`, before anything is written, for a folder that
    holds no finished trial, and for a model that the format cannot hold.
    """
    ready(to)
    trial = load_trial(folder, trust=trust)
    if raw and parse_call(trial.signature.task)[0] != "detection":
        raise ValueError(f"`raw` is for detectors, but {str(trial.folder)!r} is of the task {trial.signature.task}.")
    exportable = trial_exportable(trial, raw=raw, batch=batch, target=target)
    return write(exported_file(trial.folder, to) if out is None else out, exportable, to)


def trial_exportable(
    trial: Trial, *, raw: bool = False, batch: Batch | None = None, target: str | None = None
) -> Exportable:
    """The model of a trial, quantized or float, as exporters take it."""
    model = trial.quantized or trial.functions.inference
    variables = trial.variables if trial.quantized is None else trial.converted
    return exportable_of(model, variables, example_inputs(trial), trial.signature, raw=raw, batch=batch, target=target)


def example_inputs(trial: Trial) -> tuple[Any, ...]:
    """Shapes and dtypes of the model's inputs for one example; those of other tasks than detection and classes of texts
    come from the data set. Raises `ValueError` where that is not on this machine."""
    about = trial.signature
    task, shape = parse_call(about.task)[0], (1, *about.input_shape)
    if task == "detection":
        return (jax.ShapeDtypeStruct(shape, np.float32),)
    if task == "text_classification":
        return jax.ShapeDtypeStruct(shape, np.int32), jax.ShapeDtypeStruct(shape, np.bool_)
    batch = next(iter(in_order(trial.dataset.splits["train"], 1)))
    return tasks.build(about.task).arguments(batch)
