"""Why a job could not be done: `failure.json` in its folder, until it is done after all."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args

from qat.files import FAILURE_FILE, LOG_FILE
from qat.storage import write_atomically
from qat.sweep.events import Kind


@dataclass(frozen=True)
class Failure:
    """`error` is one clear line; `log` names the file beside it that holds what the job printed."""

    error: str
    traceback: str
    attempts: int
    kind: Kind
    log: str = LOG_FILE


def write_failure(folder: Path, failure: Failure) -> None:
    """Mark the job in `folder` as failed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FAILURE_FILE, json.dumps(asdict(failure), indent=2) + "\n")


def read_failure(folder: Path) -> Failure | None:
    """The failure of the job in `folder`; None where there is none, a damaged one says so itself."""
    try:
        text = (folder / FAILURE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        text = ""
    try:
        found = json.loads(text)
        failure = Failure(**{field.name: found[field.name] for field in fields(Failure)})
    except (ValueError, KeyError, TypeError):
        failure = None
    if failure is None or failure.kind not in get_args(Kind.__value__):
        return Failure(f"{FAILURE_FILE} is damaged: look at the log, or run the same sweep again.", "", 0, "error")
    return failure


def clear_failure(folder: Path) -> None:
    """The job in `folder` is done after all."""
    (folder / FAILURE_FILE).unlink(missing_ok=True)
