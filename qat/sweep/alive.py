"""Which processes work on a study: each keeps a file `claims/runners/<token>.json` fresh for as long as it lives."""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from qat.storage import is_local, write_atomically

RUNNERS = "claims/runners"
BEAT = 2.0  # seconds between two signs of life
REMOTE_BEAT = 15.0  # the same on an object store, where each is a request
STALE = 120.0  # seconds without one after which a process on another machine counts as dead


@dataclass(frozen=True)
class Holder:
    """A process that runs jobs of a study.

    `token` is its own; `machine` tells machines, boots and containers apart where a host name does not; `started` is
    when the process began, in the system's own count, because systems use process ids again; `runner` is how it was
    asked to run jobs.
    """

    token: str
    host: str
    machine: str
    pid: int
    started: float
    runner: str


def this_process(runner: str) -> Holder:
    """A new holder for the process that calls."""
    pid = os.getpid()
    return Holder(secrets.token_hex(8), socket.gethostname(), _machine(), pid, _began(pid), runner)


def holder_from(found: Mapping[str, Any]) -> Holder:
    """The holder in what was read from a file; `KeyError` where part of it is missing."""
    return Holder(**{field.name: found[field.name] for field in fields(Holder)})


@contextlib.contextmanager
def present(root: Path, me: Holder, news: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Keep this process's file fresh, with what `news()` gives, until the block ends; then remove it."""
    path = presence_file(root, me.token)
    path.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()

    def beat() -> None:
        content = {**asdict(me), "heartbeat": time.time(), **news()}
        write_atomically(path, json.dumps(content) + "\n")

    def keep_beating() -> None:
        while not stop.wait(BEAT if is_local(root) else REMOTE_BEAT):
            with contextlib.suppress(OSError):  # a disk that is full now may have room at the next beat
                beat()

    beat()
    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def presence_file(root: Path, token: str) -> Path:
    """Where the process with this token shows that it lives."""
    return root / RUNNERS / f"{token}.json"


def is_dead(root: Path, other: Holder, seen: float | None, now: float) -> bool:
    """Whether `other` has ended. `seen` and `now` are times of the file system that holds the study, so that clocks of
    machines need not agree: when `other` wrote last (or took the claim in question), and the present.

    On this machine its process is looked at; on another one it is dead `STALE` seconds after its last sign of life.
    """
    written = modified(presence_file(root, other.token))
    if other.machine == _machine():
        return written is None or not _runs(other)
    last = max((time for time in (seen, written) if time is not None), default=None)
    return last is None or now - last > STALE


def clock(root: Path, me: Holder) -> float:
    """The file system's time as of this process's last sign of life."""
    return modified(presence_file(root, me.token)) or time.time()


def sweep_out(root: Path, me: Holder) -> None:
    """Remove the files of processes that are dead."""
    now = clock(root, me)
    for path, found in presences(root):
        with contextlib.suppress(KeyError, TypeError, OSError):
            if is_dead(root, holder_from(found), modified(path), now):
                path.unlink(missing_ok=True)


def presences(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """What each process last wrote of itself; a file that is no whole JSON is left out."""
    found = []
    folder = root / RUNNERS
    for path in sorted(folder.glob("*.json")) if folder.exists() else ():
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                found.append((path, content))
    return found


def modified(path: Path) -> float | None:
    """When the file was last written, by the clock of its file system; None where there is none."""
    try:
        status: Any = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime if hasattr(status, "st_mtime") else float(status.mtime)


def _runs(other: Holder) -> bool:
    try:
        return _began(other.pid) == other.started and psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _began(pid: int) -> float:
    """On Linux in clock ticks since it booted, which no correction of the clock changes."""
    process = psutil.Process(pid)
    if not psutil.LINUX:
        return process.create_time()
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return float(status.rpartition(")")[2].split()[19])


@cache
def _machine() -> str:
    parts = [socket.gethostname()]
    for read in (_boot, _namespace):
        with contextlib.suppress(OSError):
            parts.append(read())
    return " ".join(parts)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def _namespace() -> str:
    """Processes of another container may have the same ids."""
    return str(Path("/proc/self/ns/pid").readlink())
