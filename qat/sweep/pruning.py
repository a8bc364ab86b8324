"""Trials of a search that are stopped early: they are pruned, not failed, and their folder says so."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qat.storage import write_atomically
from qat.sweep.folder import TRIALS
from qat.sweep.space import Search
from qat.sweep.study import Trial

if TYPE_CHECKING:
    from optuna import Trial as Asked

type Watch = Callable[[str, int, Mapping[str, float]], None]
"""Told of a training's metrics as they come: stage, step, values. It may raise `Pruned`, which ends the trial."""

PRUNED_FILE = "pruned.json"


class Pruned(Exception):  # noqa: N818
    """A trial that the search stopped, because others had come further at the same step. It did not fail."""


def watch(asked: "Asked", trial: Trial, search: Search) -> Watch:
    """Tells the pruner of the trial's own training, not of stages that it shares: the objective where training watches
    it, else the loss."""
    loss_sign = -1 if search.direction == "maximize" else 1

    def told(stage: str, step: int, values: Mapping[str, float]) -> None:
        if stage != trial.config.arm:
            return
        name = search.objective or "accuracy"
        asked.report(float(values[name] if name in values else loss_sign * values["loss"]), step)
        if asked.should_prune():
            raise Pruned(f"at step {step} of {stage} others had come further")

    return told


def mark_pruned(root: Path, trial: Trial, reason: str) -> None:
    """Leave `pruned.json` in the trial's folder."""
    path = root / TRIALS / trial.id / PRUNED_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"trial": trial.id, "labels": trial.labels, "reason": reason}
    write_atomically(path, json.dumps(about, indent=2) + "\n")


def unmark_pruned(root: Path, trial: Trial) -> None:
    """Remove it: the trial was finished after all."""
    (root / TRIALS / trial.id / PRUNED_FILE).unlink(missing_ok=True)
