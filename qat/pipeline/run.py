"""Stages on disk: each in a folder of its own, finished once, and continued where it was stopped."""

import functools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qat.artifact import load_json, load_tree, save_tree
from qat.files import (
    ARTIFACT_FILE,
    CHECKPOINTS,
    CONFIG_FILE,
    DONE_FILE,
    LOG_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    RAISED_FILE,
    STAGES,
)
from qat.manifest import manifest
from qat.pipeline.graph import Stage, stage_of
from qat.pipeline.quantizing import Calibration, calibrate, train_quantized
from qat.pipeline.training import Report, Run, Setting, setting, train_control, train_float
from qat.pipeline.trial import Trained, measure
from qat.presets import raised
from qat.record import Record, read_record
from qat.sealed import is_whole, write_sealed
from qat.signature import signature_of, write_signature
from qat.state import as_tree, from_tree
from qat.storage import write_atomically
from qat.superseded import supersede

if TYPE_CHECKING:
    from qat.config import ExperimentConfig

type Watch = Callable[[str, int, dict[str, float]], None]


def silent(*_: Any) -> None:
    """A report that nobody wants."""


def stage_folder(root: Path, stage: Stage) -> Path:
    """Where a shared stage of the study in `root` is kept."""
    return root / STAGES / stage.name


def is_finished(root: Path, stage: Stage) -> bool:
    """Whether a shared stage is done, and what it left as it was written."""
    return is_whole(stage_folder(root, stage) / DONE_FILE)


def run_stage(
    config: "ExperimentConfig", stage: Stage, root: Path, report: Report = silent, watch: Watch = silent
) -> None:
    """Do one shared stage of `config`, its needs being finished; nothing where it is finished itself.

    A damaged result is moved to `superseded/`; checkpoints, which know by themselves whether they are whole, stay.
    """
    if is_finished(root, stage):
        return
    started, folder = time.monotonic(), stage_folder(root, stage)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / DONE_FILE).exists():
        supersede(root, folder, f"{stage.name}-damaged", DONE_FILE, stays=(CHECKPOINTS, LOG_FILE))
    where = setting(config.model, config.data)
    _write_manifest(folder, config, where)
    run = Run(stage.kind, stage.key, folder, report, watch)
    save_tree(folder / ARTIFACT_FILE, _result(config, stage, root, run))
    done = {"kind": stage.kind, "key": stage.key, "seconds": round(time.monotonic() - started, 3)}
    write_sealed(folder / DONE_FILE, done)


def _result(config: "ExperimentConfig", stage: Stage, root: Path, run: Run) -> Any:
    where, seed = setting(config.model, config.data), config.seed
    if stage.kind == "float":
        return {"variables": train_float(where, config, run)}
    before = _trained(root, stage.needs[0])
    if stage.kind == "control":
        return {"variables": train_control(where, before.variables, config, run)}
    assert config.recipe is not None
    if stage.kind == "calibration":
        run.report("calibration", 0, config.calibration_batches, None)
        how = Calibration(config.train.batch_size, config.calibration_batches, seed, config.sensitive_share)
        ranges, paths = calibrate(where, config.recipe, before.variables, how)
        write_atomically(run.folder / RAISED_FILE, json.dumps(paths) + "\n")
        return {"ranges": as_tree(ranges)}
    assert config.finetune is not None and before.ranges is not None
    recipe = raised(config.recipe, before.raised)
    learnt = config.finetune, seed, run, config.distillation
    result = train_quantized(where, recipe, before.variables, before.ranges, *learnt)
    return {"variables": result[0], "ranges": as_tree(result[1])}


def run_trial(config: "ExperimentConfig", stage: Stage, root: Path, folder: Path, about: Mapping[str, Any]) -> Record:
    """Measure and record the trial, its needs being finished, in `folder`; `about` is its `trial` id, `labels` and
    `lineage`."""
    folder.mkdir(parents=True, exist_ok=True)
    where = setting(config.model, config.data)
    write_atomically(folder / CONFIG_FILE, config.model_dump_json(indent=2) + "\n")
    _write_manifest(folder, config, where)
    write_signature(folder, signature_of(where.dataset))
    shared = list(dict.fromkeys(stage.walk()))[:-1]
    curves = [path for need in shared if (path := stage_folder(root, need) / METRICS_FILE).exists()]
    write_atomically(folder / METRICS_FILE, "".join(path.read_text(encoding="utf-8") for path in curves))
    keys = {"key": stage.key, "stages": {need.kind: need.key for need in shared}}
    return measure(where, config, _trained(root, stage.needs[0]), folder, {**about, **keys})


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
    *shared, trial = dict.fromkeys(stage_of(config, setting(config.model, config.data).dataset.fingerprint).walk())
    for stage in shared:
        run_stage(config, stage, root, report, watch)
    record = read_record(folder)
    return record if record and record.key == trial.key else run_trial(config, trial, root, folder, about)


def _write_manifest(folder: Path, config: "ExperimentConfig", where: Setting) -> None:
    facts = manifest(config.seed, where.dataset.fingerprint)
    write_atomically(folder / MANIFEST_FILE, json.dumps(facts, indent=2) + "\n")


def _trained(root: Path, stage: Stage) -> Trained:
    """What a finished stage left; a calibration leaves the variables to the training before it, training the bits to
    the calibration."""
    found = _load(stage_folder(root, stage) / ARTIFACT_FILE)
    if "ranges" not in found:
        return Trained(found["variables"])
    before, ranges = stage.needs[0], from_tree(found["ranges"])
    if "variables" in found:
        return Trained(found["variables"], ranges, _trained(root, before).raised)
    paths = _load(stage_folder(root, stage) / RAISED_FILE)
    return Trained(_trained(root, before).variables, ranges, tuple(paths))


@functools.lru_cache(maxsize=8)
def _load(path: Path) -> Any:
    """A file of a finished stage, kept for the next trial that starts from it; of a damaged one `ValueError`, and the
    stage is no longer finished."""
    try:
        return load_tree(path) if path.name == ARTIFACT_FILE else load_json(path)
    except (ValueError, FileNotFoundError):
        (path.parent / DONE_FILE).unlink(missing_ok=True)
        raise
