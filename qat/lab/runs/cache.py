"""Files of a run folder, read and parsed once for as long as they stay as they are, for pages that are made anew."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qat.fileio import Stamp, stamp
from qat.lab.jobs.log import FAILURE_FILE, Failure, read_failure
from qat.lab.runs.examples import load_examples
from qat.lab.runs.files import (
    CONFIG_FILE,
    EXAMPLES_FILE,
    LAYERS_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    fault,
    sealed_by,
)
from qat.lab.runs.manifest import read_manifest
from qat.lab.runs.record import RECORD_FILE, Record, read_record
from qat.lab.runs.settings import read_config
from qat.lab.runs.study_folder import STUDY_FILE, TRIALS, read_study, stage_jobs

REMEMBERED = 32_768  # files; a study of 2,000 trials has some 10,000


def record_in(folder: Path) -> Record | str | None:
    """The record of a trial, None where it is not finished; of a damaged one, what is wrong with it."""
    return _read(_record, folder, RECORD_FILE)


def manifest_in(folder: Path) -> dict[str, Any]:
    """The manifest of a trial; empty where it has none that can be read."""
    return _read(read_manifest, folder, MANIFEST_FILE) or {}


def config_in(folder: Path) -> dict[str, Any]:
    """The settings of a trial; empty where it has none that can be read."""
    return _read(_config, folder, CONFIG_FILE) or {}


def failure_in(folder: Path) -> Failure | None:
    """The failure of the job in `folder`, None where there is none."""
    return _read(read_failure, folder, FAILURE_FILE)


def faults_that_count(folder: Path) -> list[str]:
    """Faults of a finished trial's files; of the model, which no report reads, only the size is compared. Where the
    record is an older one without digests the examples are tried."""
    digests = sealed_by(folder / RECORD_FILE)
    lines = [fault(folder / name, digests, by_size=name == MODEL_FILE) for name in digests]
    if not digests:
        lines = [_read(_unreadable, folder, EXAMPLES_FILE)]
    return [line for line in lines if line]


def from_curves[T](load: Callable[[Path], T], folder: Path) -> T | None:
    """`load(folder)`, which reads a trial's training curves; None where it has none, or not as they were written."""
    return _read_whole(load, folder, METRICS_FILE)


def from_layers[T](load: Callable[[Path], T], folder: Path) -> T | None:
    """`load(folder)`, which reads what quantization does to a trial's layers; None where it has none, or not as it was
    written."""
    return _read_whole(load, folder, LAYERS_FILE)


def from_examples[T](load: Callable[[Path], T], folder: Path) -> T | None:
    """`load(folder)`, which reads a trial's outcomes; None where it has none, or not as they were written."""
    return _read_whole(load, folder, EXAMPLES_FILE)


def study_stamps(root: Path) -> list[tuple[str, Stamp]]:
    """The files under `root` that change when a trial is finished, fails, or begins anew, with their stamps. Raises
    `ValueError` where no study is."""
    trials = read_study(root).trials
    jobs = [*(f"{TRIALS}/{trial}" for trial in trials), *stage_jobs(root)]
    files = [STUDY_FILE, *(f"{job}/{name}" for job in jobs for name in (RECORD_FILE, FAILURE_FILE))]
    return [(name, found) for name in files if (found := stamp(root / name))]


def _read_whole[T](load: Callable[[Path], T], folder: Path, name: str) -> T | None:
    return None if fault(folder / name, sealed_by(folder / RECORD_FILE)) else _read(load, folder, name)


def _read[T](load: Callable[[Path], T], folder: Path, name: str) -> T | None:
    """`load(folder)` as of the file of that name; None where there is no file, or none that this user may read."""
    seen = stamp(folder / name)
    return None if seen is None else _loaded(load, folder, name, seen)


@functools.lru_cache(maxsize=REMEMBERED)
def _loaded(load: Callable[[Path], Any], folder: Path, name: str, seen: Stamp) -> Any:
    try:
        return load(folder)
    except OSError:
        return None


def _record(folder: Path) -> Record | str | None:
    try:
        return read_record(folder)
    except ValueError as error:
        return str(error)


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        return read_config(folder)
    except ValueError:
        return None


def _unreadable(folder: Path) -> str | None:
    try:
        load_examples(folder)
    except ValueError as error:
        return str(error)
    return None
