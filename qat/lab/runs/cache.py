"""Files of a run folder, read and parsed once for as long as they stay as they are."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qat.export.trees import load_examples
from qat.fileio import Stamp, stamp
from qat.lab.runs.files import EXAMPLES_FILE, fault, sealed_by
from qat.lab.runs.record import RECORD_FILE, Record

REMEMBERED = 32_768  # files; a study of 2,000 trials has some 10,000
TAIL_BYTES = 32_768


def read[T](load: Callable[[Path], T], path: Path) -> T | None:
    """`load(path)`; None where there is no file, or none that this user may read."""
    seen = stamp(path)
    return None if seen is None else _read(load, path, seen)


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where it holds none."""
    try:
        found = json.loads(path.read_bytes().decode("utf-8", "replace"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def last_lines(path: Path, most: int = 40) -> str:
    """The end of a log, of whatever size the file is; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-most:])


@functools.lru_cache(maxsize=REMEMBERED)
def _read(load: Callable[[Path], Any], path: Path, seen: Stamp) -> Any:
    try:
        return load(path)
    except OSError:
        return None


REMEMBERED_ARRAYS = 256

type Examples = Callable[[Record], np.ndarray | None]


def reader(folders: Mapping[str, Path]) -> Examples:
    """A function from a record to its main metric of each example, by trials' folders.

    None where the trial has no such array, or one whose mean is not the metric: a test of it would answer something
    else. What is damaged, which `qat.lab.report.contents` names, counts as missing.
    """

    @functools.lru_cache(REMEMBERED_ARRAYS)
    def read(trial: str, metric: str) -> np.ndarray | None:
        folder = folders.get(trial)
        if folder is None or fault(folder / EXAMPLES_FILE, sealed_by(folder / RECORD_FILE)):
            return None
        return _load(folder / EXAMPLES_FILE, metric)

    def examples(record: Record) -> np.ndarray | None:
        found = read(record.trial, record.metric.name)
        recorded = record.metrics.get(record.metric.name, np.nan)
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
