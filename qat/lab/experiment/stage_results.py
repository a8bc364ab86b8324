"""Results of stages: each made from the results that it needs, and read back."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qat.core.state import as_tree, from_tree
from qat.lab.experiment.quantizing import (
    Calibration,
    allocated,
    calibrate,
    post_train,
    train_quantized,
    with_statistics,
)
from qat.lab.experiment.recipe import resolved
from qat.lab.experiment.settings import CalibrationSettings, ControlSettings, FloatSettings, QatSettings
from qat.lab.experiment.stages import Stage
from qat.lab.experiment.training import Run, train_control, train_float, workload_of
from qat.lab.experiment.trial import Trained
from qat.lab.runs.files import STAGES
from qat.lab.runs.finished import reopen_stage
from qat.lab.runs.models import (
    read_allocation,
    read_high_bit_layers,
    read_ptq_steps,
    read_result,
    write_allocation,
    write_high_bit_layers,
    write_ptq_steps,
)
from qat.recipes.data import recipe_to_data


def stage_folder(root: Path, stage: Stage) -> Path:
    """The folder of a shared stage of the study in `root`."""
    return root / STAGES / stage.name


def result_of(stage: Stage, root: Path, run: Run) -> Any:
    """The arrays that a shared stage leaves, made from what its needs left in `root`."""
    match stage.settings:
        case FloatSettings() as how:
            return {"variables": train_float(workload_of(how.model, how.data), how, run)}
        case ControlSettings() as how:
            before = trained_in(root, stage.needs[0])
            return {"variables": train_control(workload_of(how.model, how.data), before.variables, how, run)}
        case CalibrationSettings() as how:
            return _calibrated(how, trained_in(root, stage.needs[0]), run)
        case QatSettings() as how:
            return _trained_on(how, stage.needs[0], root, run)
    raise ValueError(f"`stage` must be one that trials share, with its settings, got {stage.name}.")


def _calibrated(how: CalibrationSettings, before: Trained, run: Run) -> Any:
    """Ranges, and the variables where post-training methods changed them."""
    workload = workload_of(how.model, how.data, how.engine, fold_norms=how.fold_norms)
    run.report("calibration", 0, how.calibration_batches, None)
    calibration = Calibration(how.batch_size, how.calibration_batches, how.seed, how.sensitive_share)
    found = None
    if how.allocation is None:
        ranges, paths = calibrate(workload, how.rules, before.variables, calibration)
    else:
        chosen = allocated(workload, how.rules, before.variables, calibration, how.allocation)
        ranges, paths, found = chosen.state, [], {"recipe": recipe_to_data(chosen.recipe), **chosen.to_data()}
        write_allocation(run.folder, found)
    write_high_bit_layers(run.folder, paths)
    if not how.ptq:
        return {"ranges": as_tree(ranges)}
    recipe = resolved(how.rules, paths, found)
    done = post_train(workload, recipe, before.variables, ranges, how.ptq, calibration)
    write_ptq_steps(run.folder, [step.to_data() for step in done.steps])
    return {"variables": done.params, "ranges": as_tree(done.state)}


def _trained_on(how: QatSettings, calibration: Stage, root: Path, run: Run) -> Any:
    """Variables and ranges after training with quantization in the loop, from what a calibration left."""
    workload, before = (
        workload_of(how.model, how.data, how.engine, fold_norms=how.fold_norms),
        trained_in(root, calibration),
    )
    assert before.ranges is not None
    recipe = resolved(how.rules, before.high_bit_layers, before.allocation)
    taught = None
    if how.distillation is not None:  # by the float model, not by what post-training methods made of it
        taught = how.distillation, trained_in(root, calibration.needs[0]).variables
    learnt = how.finetune, how.seed, run, taught
    variables, ranges = train_quantized(workload, recipe, before.variables, before.ranges, *learnt)
    if how.finetune_bn_batches is not None:
        statistics = Calibration(how.batch_size, how.finetune_bn_batches, how.seed)
        variables = with_statistics(workload, recipe, variables, ranges, statistics)
    return {"variables": variables, "ranges": as_tree(ranges)}


def trained_in(root: Path, stage: Stage) -> Trained:
    """Read the result of a finished stage; a calibration leaves the variables to the training before it, training the
    bits to the calibration.
    """
    return _trained(root, stage, _remembered)


def trained_by(root: Path, keys: Mapping[str, str]) -> Trained:
    """Read the result of a trial's last stage, from keys by kind as its record names them.

    Nothing in `root` is changed, where a file is damaged neither.
    """
    stage = None
    for kind in ("float", "control", "calibration", "qat"):
        if kind in keys:
            stage = Stage(kind, keys[kind], () if stage is None else (stage,))
    if stage is None:
        raise ValueError("the trial's record names no stage that it was made from.")
    return _trained(root, stage, _fresh)


def _trained(root: Path, stage: Stage, read: Callable[[Callable[[Path], Any], Path], Any]) -> Trained:
    found = read(read_result, stage_folder(root, stage))
    if "ranges" not in found:
        return Trained(found["variables"])
    before, ranges = stage.needs[0], from_tree(found["ranges"])
    if stage.kind == "qat":
        earlier = _trained(root, before, read)
        return replace(earlier, variables=found["variables"], ranges=ranges)
    folder = stage_folder(root, stage)
    paths = read(read_high_bit_layers, folder)
    chosen = read(read_allocation, folder)
    if "variables" not in found:
        return Trained(_trained(root, before, read).variables, ranges, paths, allocation=chosen)
    return Trained(found["variables"], ranges, paths, read(read_ptq_steps, folder), chosen)


@functools.lru_cache(maxsize=8)
def _remembered(load: Callable[[Path], Any], folder: Path) -> Any:
    """A result of a finished stage, kept for the next trial that starts from it; of a damaged one `ValueError`, and the
    stage is no longer finished."""
    try:
        return load(folder)
    except (ValueError, FileNotFoundError):
        reopen_stage(folder)
        raise


def _fresh(load: Callable[[Path], Any], folder: Path) -> Any:
    return load(folder)
