"""Stages on disk: each in a folder of its own, finished once, and continued where it was stopped."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qat.lab.experiment.stage_results import result_of, stage_folder, trained_in
from qat.lab.experiment.stages import Stage, stage_of
from qat.lab.experiment.training import Report, Run, workload_of
from qat.lab.experiment.trial import measure
from qat.lab.runs.finished import clear_stage, finish_stage, finished_trial, is_stage_finished
from qat.lab.runs.manifest import how_in, manifest, signature_of, threads_in, write_manifest, write_signature
from qat.lab.runs.metrics import join_points
from qat.lab.runs.models import write_result
from qat.lab.runs.record import Record
from qat.lab.runs.settings import write_config, write_key
from qat.train import Fit, FitResult

if TYPE_CHECKING:
    from qat.lab.experiment.config import ExperimentConfig

type Watch = Callable[[str, int, dict[str, float]], None]


def silent(*_: Any) -> None:
    """A report that nobody wants."""


def is_finished(root: Path, stage: Stage) -> bool:
    """Whether a shared stage is done, and what it left as it was written."""
    return is_stage_finished(stage_folder(root, stage))


def run_stage(
    stage: Stage,
    root: Path,
    report: Report = silent,
    watch: Watch = silent,
    train: Callable[[Fit], FitResult] = Fit.alone,
) -> None:
    """Do one shared stage, its needs being finished; nothing where it is finished itself. `train` does its training.

    A damaged result is moved to `superseded/`; checkpoints, which know by themselves whether they are whole, stay.
    """
    if is_finished(root, stage):
        return
    started, folder = time.monotonic(), stage_folder(root, stage)
    folder.mkdir(parents=True, exist_ok=True)
    clear_stage(root, folder, stage.name)
    _write_origin(folder, stage)
    run = Run(stage.kind, stage.key, folder, report, watch, train)
    write_result(folder, result_of(stage, root, run))
    finish_stage(folder, stage.kind, stage.key, time.monotonic() - started)


def run_trial(config: "ExperimentConfig", stage: Stage, root: Path, folder: Path, about: Mapping[str, Any]) -> Record:
    """Measure and record the trial, its needs being finished, in `folder`; `about` is its `trial` id, `labels` and
    `lineage`."""
    folder.mkdir(parents=True, exist_ok=True)
    workload = workload_of(config.model, config.data, config.engine, fold_norms=config.fold_norms)
    write_config(folder, config.model_dump_json(indent=2))
    _write_origin(folder, stage)
    write_signature(folder, signature_of(workload.dataset))
    shared = list(dict.fromkeys(stage.walk()))[:-1]
    join_points(folder, (stage_folder(root, need) for need in shared))
    keys = {"key": stage.key, "stages": {need.kind: need.key for need in shared}}
    places = {need.kind: stage_folder(root, need) for need in shared} | {"trial": folder}
    threads = {kind: n for kind, place in places.items() if (n := threads_in(place)) is not None}
    how = {kind: one for kind, place in places.items() if (one := how_in(place)) is not None}
    about = {**about, **keys, "threads": threads, "how": how}
    return measure(workload, config, trained_in(root, stage.needs[0]), folder, about)


def run_experiment(
    config: "ExperimentConfig",
    root: Path,
    folder: Path,
    about: Mapping[str, Any],
    report: Report = silent,
    watch: Watch = silent,
) -> Record:
    """All stages that `config` needs, then its trial; what is finished is not done again.

    `report` is told how far it is, `watch` of each training's metrics; what either raises ends the experiment.
    """
    *shared, trial = dict.fromkeys(stage_of(config, workload_of(config.model, config.data).dataset.fingerprint).walk())
    for stage in shared:
        run_stage(stage, root, report, watch)
    return finished_trial(folder, trial.key) or run_trial(config, trial, root, folder, about)


def _write_origin(folder: Path, stage: Stage) -> None:
    """Write the environment of a stage and the parts of its key."""
    assert stage.settings is not None
    write_manifest(folder, manifest(stage.settings.seed, stage.parts["data"]))
    write_key(folder, stage.key, stage.parts)
