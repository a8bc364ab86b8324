"""Bits of a config's layers chosen within a budget: the stages before, the choice as a table and as a config."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from qat import data
from qat.fileio import working_folder, write_atomically
from qat.lab.experiment import stage_of
from qat.lab.experiment.check import refuse_misfits
from qat.lab.experiment.config import QUANTIZED, ExperimentConfig, override
from qat.lab.experiment.run import run_stage
from qat.lab.experiment.stage_results import trained_in
from qat.lab.experiment.training import Report, Workload, workload_of
from qat.lab.experiment.trial import Trained
from qat.lab.jobs.threads import using
from qat.lab.runs.study_folder import threads_for
from qat.lab.sweep.study import load_one
from qat.recipes.data import recipe_from_data


@dataclass(frozen=True)
class Prepared:
    """A config whose stages before its trial are done in the folder `root`: what they left, and the float model."""

    config: ExperimentConfig
    imports: tuple[str, ...]
    root: Path
    workload: Workload
    trained: Trained
    float_variables: Any


def load_quantized(file: Path, changes: Mapping[str, Any]) -> tuple[ExperimentConfig, tuple[str, ...]]:
    """The config in a file and the files that it imports. Raises `ValueError` where its arm has no bits."""
    study = load_one(file, changes)
    config = study.trials[0].config
    if config.arm not in QUANTIZED:
        raise ValueError(f"`arm` of {str(file)!r} must be 'ptq' or 'qat', got {config.arm!r}. Add --set arm=ptq.")
    return config, study.imports


def prepare(config: ExperimentConfig, imports: tuple[str, ...], runs: str | None, report: Report) -> Prepared:
    """Do what a trial of `config` needs; finished stages are not done again. Raises `ValueError`, before any work, for
    what does not fit."""
    root = working_folder(runs or f"runs/{config.name}")
    with using(threads_for(root)):
        refuse_misfits([config])
        *shared, _ = dict.fromkeys(stage_of(config, data.load(config.data).fingerprint).walk())
        for stage in shared:
            run_stage(stage, root, report)
    workload = workload_of(config.model, config.data, config.engine, fold_norms=config.fold_norms)
    variables = trained_in(root, shared[0]).variables
    return Prepared(config, imports, root, workload=workload, trained=trained_in(root, shared[-1]),
                    float_variables=variables)  # fmt: skip


def allocate_file(
    file: Path, changes: Mapping[str, Any], runs: str | None, out: Path | None, report: Report
) -> tuple[Table, Path]:
    """Choose the bits of the config in `file`, write the config that has them, and tell the front and the choice.

    The budget is the config's `allocation`; without one it is the size that its recipe has.
    """
    config, imports = load_quantized(file, changes)
    config = override(config, {"allocation": config.allocation or "size", "sensitive_share": None})
    done = prepare(config, imports, runs, report)
    found = done.trained.allocation
    assert found is not None
    recipe = recipe_from_data(found["recipe"], "recipe")
    path = out or done.root / "allocated.json"
    write_config_file(path, override(config, {"recipe": recipe, "allocation": None}), imports)
    return _front(found), path


def write_config_file(path: Path, config: ExperimentConfig, imports: Sequence[str]) -> None:
    """Write a config as data that `qat run` takes, with the files that register what it names."""
    content = {"imports": list(imports), "config": config.model_dump(mode="json")}
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def _front(found: Mapping[str, Any]) -> Table:
    kept = "the uniform recipe, which none beat" if found["is_uniform"] else "better than uniform on held-out batches"
    table = Table(title=f"bits within {found['limit']:,.6g} {found['unit']}: {kept}", title_justify="left")
    for name in (found["unit"], "held-out loss", "", "bits of layers"):
        table.add_column(name, overflow="fold")
    for point in found["front"]:
        notes = [name for name in ("chosen", "uniform") if found[name] == point]
        bits = ", ".join(f"{name} {one}" for name, one in point["bits"].items())
        table.add_row(f"{point['cost']:,.6g}", f"{point['loss']:.4g}", " ".join(notes), bits)
    return table
