"""Studies in the mirror: what scores 1 - x of a metric of which lower is better, where the other scores x."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from records import make_record, write_examples

from qat import data, tasks
from qat.lab.runs.record import Record
from qat.tasks.metric import Metric, fraction

HIGHER, LOWER = fraction("accuracy"), fraction("error", "lower")
ARMS: tuple[tuple[Any, str | None, float], ...] = (
    ("float", None, 0.9),
    ("control", None, 0.905),
    *(("ptq", recipe, 0.9 - loss) for recipe, loss in (("w8a8", 0.0), ("w4a8", 0.004), ("w4a4", 0.03), ("w2a4", 0.2))),
    *(("qat", recipe, 0.905 - loss) for recipe, loss in (("w8a8", 0.0), ("w4a8", 0.0), ("w4a4", 0.01), ("w2a4", 0.03))),
)
EXAMPLES = 97  # prime: no mean lies halfway between two numbers as shown
SIZES = {None: 400, "w8a8": 100, "w4a8": 60, "w4a4": 55, "w2a4": 30}


def study(
    folder: Path, number: int, *, seeds: int = 4, right_or_wrong: bool = True
) -> tuple[list[Record], dict[str, Path]]:
    """The records of a study drawn with a seed, and their folders, which hold the examples that they are means of."""
    rng = np.random.default_rng(number)
    records, folders = [], {}
    for seed in range(seeds):
        hard, luck = rng.random(EXAMPLES), 0.004 * rng.normal()
        for arm, recipe, share in ARMS:
            share = np.clip(share + luck + 0.003 * rng.normal(), 0, 1)
            answers = (hard < share).astype(np.float64) if right_or_wrong else share * hard
            record = make_record(arm, recipe, seed, float(answers.mean()), size_bytes=SIZES[recipe])
            folders[record.trial] = write_examples(folder / record.trial, accuracy=answers)
            records.append(record)
    return records, folders


def mirror(folder: Path, records: list[Record], folders: dict[str, Path]) -> tuple[list[Record], dict[str, Path]]:
    """The same study, told by the share that is wrong."""
    found = {}
    for trial, place in folders.items():
        with np.load(place / "examples.npz") as arrays:
            found[trial] = write_examples(folder / trial, error=1 - arrays["accuracy"])
    changes = [{"task_metrics": (LOWER,), "metrics": {"error": 1 - one.metrics["accuracy"]}} for one in records]
    return [one.model_copy(update=change) for one, change in zip(records, changes, strict=True)], found


@contextmanager
def mirrored_digits() -> Iterator[str]:
    """A data set like `digits` whose task has an error for its main metric, known for as long."""

    def mirrored_task() -> tasks.Task:
        return replace(tasks.build("classification"), metrics=(Metric("error", "lower"),))

    def mirrored_data() -> data.Dataset:
        return replace(data.load("digits"), task="mirrored_task")

    tasks.register(mirrored_task)
    data.register(mirrored_data)
    try:
        yield "mirrored_data"
    finally:
        for registry in (tasks.tasks, data.datasets):
            registry.forget([Path(__file__)])
