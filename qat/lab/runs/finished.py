"""Whether the stage or trial in a folder is finished, and how it ended: `done.json` of a stage, the record of a trial,
and `pruned.json` of a trial that a search stopped."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from qat.fileio import write_atomically
from qat.lab.jobs.log import LOG_FILE
from qat.lab.runs.files import (
    CHECKPOINTS,
    CONFIG_FILE,
    DONE_FILE,
    MODEL_FILE,
    PRUNED_FILE,
    SIGNATURE_FILE,
    fault,
    faults,
    is_whole,
    sealed_by,
    supersede,
    write_sealed,
)
from qat.lab.runs.record import RECORD_FILE, Record, read_record


def finish_stage(folder: Path, kind: str, key: str, seconds: float) -> None:
    """Finish the stage in `folder`, whose other files are all written; digests of them are written too."""
    write_sealed(folder / DONE_FILE, {"kind": kind, "key": key, "seconds": round(seconds, 3)})


def is_stage_finished(folder: Path) -> bool:
    """Whether the stage in `folder` is done, and all that it left as it was written."""
    return is_whole(folder / DONE_FILE)


def finished_trial(folder: Path, key: str) -> Record | None:
    """The record of the trial in `folder` where it is finished with this key and all its files are as they were
    written, else None."""
    try:
        record = read_record(folder)
    except ValueError:
        return None
    return record if record is not None and record.key == key and is_whole(folder / RECORD_FILE) else None


def has_ended(folder: Path) -> bool:
    """Whether the stage or trial in `folder` was finished once, whatever has become of its files since."""
    return _seal(folder) is not None


def seconds_of(folder: Path) -> float:
    """The seconds that the finished stage or trial in `folder` took; NaN where it does not tell."""
    if (record := read_record(folder)) is not None:
        return record.timings.get("seconds", math.nan)
    return float(json.loads((folder / DONE_FILE).read_text(encoding="utf-8")).get("seconds", math.nan))


def faults_in(folder: Path, *, by_size: bool = False) -> list[str]:
    """A line for each file of the finished stage or trial in `folder` that is not as it was written; none of one that
    was never finished. With `by_size` contents are not read."""
    path = _seal(folder)
    if path is None:
        return []
    try:
        read_record(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    return faults(path, by_size=by_size)


def faults_of_model(folder: Path) -> list[str]:
    """A line for each file that a trial's model is loaded from and that is not as it was written."""
    digests, names = sealed_by(folder / RECORD_FILE), (MODEL_FILE, CONFIG_FILE, SIGNATURE_FILE)
    return [line for name in names if (line := fault(folder / name, digests)) is not None]


def reopen_stage(folder: Path) -> None:
    """Take back that the stage in `folder` is finished: it is done again."""
    (folder / DONE_FILE).unlink(missing_ok=True)


def clear_stage(root: Path, folder: Path, name: str) -> None:
    """Move the damaged result of a stage to `superseded/`; checkpoints, which know whether they are whole, stay."""
    if (folder / DONE_FILE).exists():
        supersede(root, folder, f"{name}-damaged", DONE_FILE, stays=(CHECKPOINTS, LOG_FILE))


def set_aside(root: Path, folder: Path, trial: str, key: str) -> None:
    """Move a result of other settings, code or data, or a damaged one, out of the trial's folder, which it keeps."""
    if not (folder / RECORD_FILE).exists() or finished_trial(folder, key) is not None:
        return
    try:
        record = read_record(folder)
    except ValueError:
        record = None
    name = "damaged" if record is None or record.key == key else record.key or "schema1"
    supersede(root, folder, f"{trial}-{name}", RECORD_FILE, stays=(LOG_FILE,))  # this job writes the log


def mark_pruned(folder: Path, trial: str, labels: Mapping[str, str], reason: str) -> None:
    """Leave word in a trial's folder that a search stopped it, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"trial": trial, "labels": dict(labels), "reason": reason}
    write_atomically(folder / PRUNED_FILE, json.dumps(about, indent=2) + "\n")


def unmark_pruned(folder: Path) -> None:
    """Remove the mark of pruning: the trial was finished after all."""
    (folder / PRUNED_FILE).unlink(missing_ok=True)


def _seal(folder: Path) -> Path | None:
    """The file that was written last into a finished folder."""
    return next((path for name in (RECORD_FILE, DONE_FILE) if (path := folder / name).exists()), None)
