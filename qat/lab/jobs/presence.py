"""Presence of the processes that work on a study: each keeps a file `claims/runners/<token>.json` fresh for as long as
it lives.
"""

import contextlib
import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil

from qat.fileio import write_atomically
from qat.lab.jobs.threads import beside

RUNNERS = "claims/runners"
BEAT = 2.0  # seconds between two signs of life
STALE = 120.0  # seconds without one after which a process on another machine counts as dead
LONGEST = 120.0  # seconds to wait for the other; some network file systems keep the locks of the dead for so long
LOOK_EVERY = 0.02
TAKEN = {errno.EACCES, errno.EAGAIN}


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock on the file, which the system takes back when this process dies, however it dies.

    Claims keep living runners apart; this is for the moments in which a worker outlives its runner. Where the file
    system has no locks there is none. Raises `TimeoutError` where another process has it for too long.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    # A lock of the system, not a file that stands for one: nobody has to decide whether a dead process's lock is
    # stale.
    until = time.monotonic() + LONGEST
    with path.open("ab") as file:
        # Invariant: this process does not hold the lock. Asked again rather than waited for, as a wait cannot be
        # bounded.
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                # The file system has no locks. Better to go on without one than to run nothing at all there.
                if error.errno not in TAKEN:
                    break
                if time.monotonic() > until:
                    raise TimeoutError(f"another process still works in {str(path.parent)!r}") from None
            time.sleep(LOOK_EVERY)
        yield


@dataclass(frozen=True)
class ProcessId:
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


def this_process(runner: str) -> ProcessId:
    """A new holder for the process that calls."""
    pid = os.getpid()
    return ProcessId(secrets.token_hex(8), socket.gethostname(), _machine(), pid, _began(pid), runner)


def process_id_from(found: Mapping[str, Any]) -> ProcessId:
    """The holder in what was read from a file; `KeyError` where part of it is missing."""
    return ProcessId(**{field.name: found[field.name] for field in fields(ProcessId)})


@contextlib.contextmanager
def present(root: Path, me: ProcessId, news: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Keep this process's file fresh, with what `news()` gives, until the block ends; then remove it."""
    path = presence_file(root, me.token)
    path.parent.mkdir(parents=True, exist_ok=True)

    def beat() -> None:
        # Replaced as a whole each time, as others read it at any moment. It is the file's time, not the one inside,
        # that says when: one clock for all machines.
        content = {**asdict(me), "heartbeat": time.time(), **news()}
        write_atomically(path, json.dumps(content) + "\n")

    def keep_beating(stop: threading.Event) -> None:
        # Invariant: no two beats are further apart than a beat and the time of a write, far below `STALE`, as long as
        # the disk takes writes. A thread beats, since the main one may be inside a compilation for minutes.
        while not stop.wait(BEAT):
            with contextlib.suppress(OSError):  # a disk that is full now may have room at the next beat
                beat()

    beat()
    try:
        # It has ended before the file is removed, or a beat under way would make it again and leave a ghost.
        with beside(keep_beating, "heartbeat"):
            yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def presence_file(root: Path, token: str) -> Path:
    """The path of the heartbeat file of the process with this token."""
    return root / RUNNERS / f"{token}.json"


def is_dead(root: Path, other: ProcessId, seen: float | None, now: float) -> bool:
    """Whether `other` has ended. `seen` and `now` are times of the file system that holds the study, so that clocks of
    machines need not agree: when `other` wrote last (or took the claim in question), and the present.

    On this machine its process is looked at, which counts as dead too once it is stopped (Ctrl-Z) for `STALE` seconds;
    on another one it is dead `STALE` seconds after its last sign of life. A time that far in the future is no sign.
    """
    written = modified(presence_file(root, other.token))
    # On one machine the system knows better than any file does: a process that compiles for long is not dead, and one
    # that was killed is dead at once. A missing file means that it ended in order, or that the folder was cleared.
    if other.machine == _machine() and (state := _state(other)) != "hidden":
        return written is None or state == "gone" or (state == "stopped" and not _is_fresh(written, now))
    # From another machine only silence can be seen; `STALE` is many beats, so that a busy disk kills nobody.
    return not any(time is not None and _is_fresh(time, now) for time in (seen, written))


def _is_fresh(time: float, now: float) -> bool:
    # A time far ahead comes from a clock that was set back since, and would otherwise keep a dead process alive for
    # as long.
    return abs(now - time) <= STALE


def clock(root: Path, me: ProcessId) -> float:
    """The file system's time as of this process's last sign of life."""
    return modified(presence_file(root, me.token)) or time.time()


def sweep_out(root: Path, me: ProcessId) -> None:
    """Remove the files of processes that are dead."""
    # The time of the file that this process wrote last, rather than this machine's clock: ages are differences of two
    # times of one file system.
    now = clock(root, me)
    for path, found in presences(root):
        with contextlib.suppress(KeyError, TypeError, OSError):
            if is_dead(root, process_id_from(found), modified(path), now):
                path.unlink(missing_ok=True)


def presences(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read each process's latest heartbeat file; a file that is no whole JSON is left out."""
    found = []
    folder = root / RUNNERS
    # Files may vanish between the listing and the read, as their processes end at any time.
    for path in sorted(folder.glob("*.json")) if folder.exists() else ():
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                found.append((path, content))
    return found


def living(root: Path) -> list[ProcessId]:
    """The processes that work on the study now."""
    found = []
    for path, content in presences(root):
        with contextlib.suppress(KeyError, TypeError, OSError):
            holder = process_id_from(content)
            if not is_dead(root, holder, modified(path), time.time()):
                found.append(holder)
    return found


def modified(path: Path) -> float | None:
    """The time of a file's last write, by the clock of its file system; None where there is none."""
    try:
        status: Any = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime if hasattr(status, "st_mtime") else float(status.mtime)


def _state(other: ProcessId) -> Literal["runs", "stopped", "gone", "hidden"]:
    """The state of a process on this machine; `hidden` where the system does not show processes of other users."""
    try:
        # Numbers of processes are used again: without the start another program would pass for the dead one.
        if _began(other.pid) != other.started:
            return "gone"
        status = psutil.Process(other.pid).status()
    except psutil.NoSuchProcess:
        return "hidden" if _exists(other.pid) else "gone"
    except psutil.AccessDenied:
        return "hidden"
    # It has ended, only its parent has not asked how yet.
    if status == psutil.STATUS_ZOMBIE:
        return "gone"
    return "stopped" if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "runs"


def _exists(pid: int) -> bool:
    """Whether there is such a process of another user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _began(pid: int) -> float:
    """The start of a process, on Linux in clock ticks since boot, which no correction of the clock changes."""
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
