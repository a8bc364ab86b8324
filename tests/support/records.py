"""Records made up for tests of what reads them."""

import json
from pathlib import Path

import numpy as np

from qat.lab.runs.record import Lineage, Record, write_record
from qat.tasks.classification import METRICS


def make_record(arm="float", recipe=None, seed=0, score=0.9, variant="a", labels=None, **changes) -> Record:
    """A finished trial; those of one variant and seed start from one float model, and share one control."""
    name = f"{arm} {recipe}" if recipe else arm
    fields = {
        "trial": f"{variant}-{name}-{seed}".replace(" ", "-"),
        "labels": {"arm": name, "seed": f"seed {seed}"} if labels is None else labels,
        "arm": arm,
        "recipe": recipe,
        "seed": seed,
        "lineage": Lineage(
            float_stage=f"float {variant} {seed}", control=f"control {variant} {seed}", group=f"{variant} {name}"
        ),
        "task_metrics": METRICS,
        "metrics": {"accuracy": score},
        "examples": 100,
        "size_bytes": 400 if recipe is None else 100,
        "timings": {"seconds": 1.0},
    }
    return Record(**{**fields, **changes})


def write_examples(folder: Path, **arrays) -> Path:
    """Per-example numbers in a trial's folder, which comes back."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "examples.npz", **arrays)
    return folder


def write_study(root, records, name="s", unfinished=()):
    """A study's folder with these finished trials and the ids of some that are not."""
    listed = [{"id": record.trial, "labels": record.labels} for record in records]
    listed += [{"id": trial, "labels": {}} for trial in unfinished]
    root.mkdir(parents=True)
    (root / "study.json").write_text(json.dumps({"name": name, "imports": [], "trials": listed}))
    for record in records:
        place = root / "trials" / record.trial
        place.mkdir(parents=True)
        config = {
            "name": name, "model": "cnn", "arm": record.arm, "recipe": record.recipe, "seed": record.seed,
            "train": {"steps": 100, "learning_rate": 0.1 * (1 + record.seed)},
            "finetune": {"steps": 50} if record.arm == "qat" else None,
        }  # fmt: skip
        (place / "config.json").write_text(json.dumps(config))
        write_record(place, record)
    return root
