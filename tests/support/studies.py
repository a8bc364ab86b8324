"""A small study and trials that are done at once, for tests of what runs and reports them."""

import json
from pathlib import Path

from rich.console import Console

from qat.fileio import write_atomically
from qat.lab.experiment.config import ExperimentConfig, lineage
from qat.lab.runs.record import Record, write_record
from qat.lab.sweep.study import Trial
from qat.tasks.classification import METRICS
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="base",
    model="cnn",
    data="digits",
    train=TrainConfig(steps=10),
    finetune=TrainConfig(steps=5),
)
ARMS = {
    "float": {"arm": "float"},
    "control": {"arm": "control"},
    "ptq w8a8": {"arm": "ptq", "recipe": "w8a8"},
}
QUIET = Console(quiet=True)
RAN: list[str] = []


def fake_record(trial, accuracy=0.5, **changes):
    """A trial's record with an accuracy of choice."""
    config = trial.config
    fields = {
        "trial": trial.id,
        "labels": trial.labels,
        "arm": config.arm,
        "recipe": config.recipe_name,
        "seed": config.seed,
        "lineage": lineage(config),
        "task_metrics": METRICS,
        "metrics": {"accuracy": accuracy, **{f"{split}/accuracy": accuracy for split in config.more_splits}},
        "examples": 100,
        "size_bytes": 400 if config.recipe is None else 100,
        "timings": {"seconds": 0.0},
    }
    return Record(**{**fields, **changes})


def at_once(root, payload, report):
    """A job's work in a moment: an accuracy of a half, and its name in `RAN`."""
    RAN.append(payload["trial"] if payload["kind"] == "trial" else payload["kind"])
    if payload["kind"] != "trial":
        folder = Path(root) / "stages" / f"{payload['kind']}-{payload['key']}"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "done.json", json.dumps({"seconds": 0.0}))
        return
    trial = Trial(payload["labels"], ExperimentConfig.model_validate(payload["config"]))
    folder = Path(root) / "trials" / payload["trial"]
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, fake_record(trial, key=payload["key"]))


def measured_at_once(config, stage, root, folder, about):
    """The record of a trial whose stages are finished, without a measurement."""
    folder.mkdir(parents=True, exist_ok=True)
    record = fake_record(Trial(about["labels"], config), key=stage.key)
    write_record(folder, record)
    return record


def stops_at_the_fourth_trial(root, payload, report):
    """The same, until three trials are done; then as if Ctrl-C were pressed."""
    if payload["kind"] == "trial" and sum(name.startswith("base") for name in RAN) == 3:
        raise KeyboardInterrupt
    at_once(root, payload, report)


def replaces_the_study(root, payload, report):
    """The same, and then another sweep with other settings has begun in the folder."""
    at_once(root, payload, report)
    path = Path(root) / "study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "trials": [{"id": "another", "labels": {}}]}))


def fails_for_seed_1(root, payload, report):
    """The same, but the float model of seed 1 cannot be trained."""
    if payload["kind"] == "float" and payload["config"]["seed"] == 1:
        raise FloatingPointError("loss nan at step 3")
    at_once(root, payload, report)
