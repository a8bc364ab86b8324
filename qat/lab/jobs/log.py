"""Logs of jobs: all output of a job, native code included, goes to `log.txt` in its folder."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from qat.fileio import write_atomically
from qat.lab.jobs.events import Kind

LOG_FILE, FAILURE_FILE = "log.txt", "failure.json"
TAIL_BYTES = 32_768  # of a log that are read to show its end


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
    # Half a file of some disk that lost power: damaged like any other that does not parse.
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
    """Remove the mark of failure: the job in `folder` is done after all."""
    (folder / FAILURE_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def logged(place: Path) -> Iterator[None]:
    """Append all that this process prints meanwhile to the log in `place`, under a line that says when and where.

    File descriptors are redirected, so this is for a process that runs one job at a time.
    """
    with (place / LOG_FILE).open("ab", buffering=0) as log:
        log.write(header().encode())
        # Descriptors and not `sys.stdout`, since XLA and other native code write to these.
        kept = [os.dup(descriptor) for descriptor in (1, 2)]
        try:
            _flush()
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            yield
        finally:
            _flush()
            for descriptor, old in zip((1, 2), kept, strict=True):
                os.dup2(old, descriptor)
                os.close(old)


def append_log(place: Path, text: str) -> None:
    """Add to the log of a job whose own output was not redirected, or that can no longer write."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOG_FILE).open("ab", buffering=0) as log:
        log.write(text.encode())


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


def header() -> str:
    """The line that an attempt's output begins with."""
    return f"--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, {where()}\n"


def where() -> str:
    """This process, for a person: machine and process id."""
    return f"{socket.gethostname()}, pid {os.getpid()}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
