"""The main metric of each test example, read from a trial's folder when it is needed."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from qat.artifact import load_examples
from qat.files import EXAMPLES_FILE
from qat.record import RECORD_FILE, Record
from qat.sealed import fault, sealed_by

REMEMBERED = 256  # arrays

type Examples = Callable[[Record], np.ndarray | None]


def reader(folders: Mapping[str, Path]) -> Examples:
    """A function from a record to its main metric of each example, by trials' folders.

    None where the trial has no such array, or one whose mean is not the metric: a test of it would answer something
    else. What is damaged, which `qat.report.contents` names, counts as missing.
    """

    @functools.lru_cache(REMEMBERED)
    def read(trial: str, metric: str) -> np.ndarray | None:
        folder = folders.get(trial)
        if folder is None or fault(folder / EXAMPLES_FILE, sealed_by(folder / RECORD_FILE)):
            return None
        return _load(folder / EXAMPLES_FILE, metric)

    def examples(record: Record) -> np.ndarray | None:
        found = read(record.trial, record.metric)
        recorded = record.metrics.get(record.metric, np.nan)
        same = found is not None and np.isclose(found.mean(dtype=np.float64), recorded, atol=1e-6)
        return found if same else None

    return examples


def _load(path: Path, name: str) -> np.ndarray | None:
    try:
        found = load_examples(path, (name,))[name]
    except (OSError, ValueError):
        return None
    usable = found.ndim == 1 and found.size and found.dtype.kind in "biuf" and np.isfinite(found).all()
    return found if usable else None
