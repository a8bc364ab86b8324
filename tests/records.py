"""Records made up for tests of what reads them."""

from pathlib import Path

import numpy as np

from qat.record import Lineage, Record


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
