"""The model of a config file or a trial held against a target: `qat check-target`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qat.export.fold import fold_norms
from qat.export.target_check import TargetCheck, check_target
from qat.export.targets import build
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import workload_of
from qat.lab.inspect.trial import load_trial
from qat.lab.sweep.study import load_one
from qat.recipes.recipe import QuantRecipe
from qat.transform import Quantized


def check_file_or_trial(
    path: str, target: str, changes: Mapping[str, Any], *, fold: bool = False, trust: bool = False
) -> TargetCheck:
    """Hold the quantized model of a config file, before any training, or of a finished trial's folder against a target;
    with `fold` its norms are folded first.

    Raises `ValueError` for an unknown target, a file or folder that is none, and a model in float.
    """
    build(target)  # an unknown one is told before data are read
    if Path(path).is_file():
        return _check_config(Path(path), target, changes, fold)
    if changes:
        raise ValueError(f"`--set` changes the config of a file; the trial {path!r} is as it was run. Leave it out.")
    trial = load_trial(path, trust=trust)
    q, converted = trial.quantized, trial.converted
    if q is None or converted is None:
        raise ValueError(_in_float(path))
    inputs = workload_of(trial.config.model, trial.config.data).example()
    return check_target(_folded(q, fold), converted, *inputs, target=target)


def _check_config(path: Path, target: str, changes: Mapping[str, Any], fold: bool) -> TargetCheck:
    config = load_one(path, changes).trials[0].config
    rules: QuantRecipe | None = config.rules
    if rules is None:
        raise ValueError(_in_float(str(path)))
    workload = workload_of(config.model, config.data, config.engine, fold_norms=config.fold_norms)
    q = _folded(quantized(workload, rules).inference, fold)
    return check_target(q, workload.abstract_variables(), *workload.example(), target=target)


def _folded(q: Quantized, fold: bool) -> Quantized:
    return replace(q, fn=fold_norms(q.fn)) if fold else q


def _in_float(path: str) -> str:
    return (
        f"the model of {path!r} is in float: there is nothing to check. Give one with a recipe, such as --set arm=ptq "
        "--set recipe=w8a8 for a config file."
    )
