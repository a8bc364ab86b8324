"""Results of stages: each made from the results that it needs, and read back."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from qat.lab.experiment.config import ExperimentConfig


def stage_folder(root: Path, stage: Stage) -> Path:
    """The folder of a shared stage of the study in `root`."""
    return root / STAGES / stage.name


def result_of(config: "ExperimentConfig", stage: Stage, root: Path, run: Run) -> Any:
    """The arrays that a shared stage leaves, made from what its needs left in `root`."""
    workload, seed = workload_of(config.model, config.data, config.engine), config.seed
    if stage.kind == "float":
        return {"variables": train_float(workload, config, run)}
    before = trained_in(root, stage.needs[0])
    if stage.kind == "control":
        return {"variables": train_control(workload, before.variables, config, run)}
    assert config.rules is not None
    if stage.kind == "calibration":
        run.report("calibration", 0, config.calibration_batches, None)
        how = Calibration(config.train.batch_size, config.calibration_batches, seed, config.sensitive_share)
        found = None
        if config.allocation is None:
            ranges, paths = calibrate(workload, config.rules, before.variables, how)
        else:
            chosen = allocated(workload, config.rules, before.variables, how, config.allocation)
            ranges, paths, found = chosen.state, [], {"recipe": recipe_to_data(chosen.recipe), **chosen.to_data()}
            write_allocation(run.folder, found)
        write_high_bit_layers(run.folder, paths)
        if not config.ptq:
            return {"ranges": as_tree(ranges)}
        recipe = resolved(config.rules, paths, found)
        done = post_train(workload, recipe, before.variables, ranges, config.ptq, how)
        write_ptq_steps(run.folder, [step.to_data() for step in done.steps])
        return {"variables": done.params, "ranges": as_tree(done.state)}
    assert config.finetune is not None and before.ranges is not None
    recipe = resolved(config.rules, before.high_bit_layers, before.allocation)
    taught = None
    if config.distillation is not None:  # by the float model, not by what post-training methods made of it
        taught = config.distillation, trained_in(root, stage.needs[0].needs[0]).variables
    learnt = config.finetune, seed, run, taught
    variables, ranges = train_quantized(workload, recipe, before.variables, before.ranges, *learnt)
    if config.finetune_bn_batches is not None:
        how = Calibration(config.train.batch_size, config.finetune_bn_batches, seed)
        variables = with_statistics(workload, recipe, variables, ranges, how)
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
