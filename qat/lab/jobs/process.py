"""A worker process as its parent sees it: started, given jobs, listened to, watched and ended."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import IO

import psutil

from qat.lab.jobs.events import Event, JobEnd, JobRequest, from_json
from qat.lab.jobs.machine import Slot
from qat.lab.jobs.worker import command

LAST_WORDS = 2000  # characters of what a worker printed outside of jobs
GRACE = 3.0  # seconds that a worker has to end, once told to while idle, or once it says no more
STACKS = 0.5  # seconds that a worker that hangs has to write down where


@dataclass
class Worker:
    """A process in a group and session of its own, so that Ctrl-C in the terminal does not reach it.

    `request` is its job, `begun` whether it has said so, `heard` when it last said anything of it.
    """

    slot: int
    process: subprocess.Popen[bytes]
    words: IO[bytes]
    request: JobRequest | None = None
    begun: bool = False
    heard: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """The process id, which is its group's too."""
        return self.process.pid

    def give(self, request: JobRequest) -> None:
        """Have it do a job; where it died just now, its end says so later."""
        self.request, self.begun, self.heard = request, False, time.monotonic()
        self._write(asdict(request))

    def is_gone(self) -> bool:
        """Whether the process ended, by itself or killed; what it leaves of its group is ended first."""
        if self.process.returncode is None and _is_zombie(self.pid):
            _kill_group(self.pid)  # before the process is waited for, and its number free for others
            self.process.wait()  # a process is a zombie some moments before its last thread is gone
        return self.process.poll() is not None

    def how_it_ended(self) -> str:
        """Describe the end of a process that says no more, which may take a moment to end."""
        self._wait_for_its_end()
        if self.process.returncode is None:
            self.kill()
            return f"its worker process closed its output, and was ended because it went on{self._last_words()}"
        code, words = self.process.returncode, self._last_words()
        if code >= 0:
            return f"its worker process ended with exit code {code}{words}"
        name = {one.value: one.name for one in signal.Signals}.get(-code, f"signal {-code}")
        memory = ", perhaps by the system because memory ran out" if name == "SIGKILL" else ""
        return f"its worker process was ended by {name}{memory}{words}"

    def write_stacks(self) -> None:
        """Have the log say where the process is."""
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGUSR1)
                time.sleep(STACKS)

    def kill(self) -> None:
        """End it and its group now."""
        if self.process.returncode is None:
            _kill_group(self.pid)
            self.process.wait()

    def discard(self) -> None:
        """End it, and forget what it said."""
        self.kill()
        for stream in (self.process.stdin, self.words):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def dismiss(self) -> None:
        """Tell an idle process to finish, a busy one to end at once."""
        with contextlib.suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()

    def wait_until_gone(self) -> None:
        """See to it that a dismissed process is gone."""
        self._wait_for_its_end()
        self.discard()

    def _wait_for_its_end(self) -> None:
        until = time.monotonic() + GRACE
        # Invariant: the process was told to end or has closed its output; at the end of `GRACE` the caller kills what
        # is left.
        while not self.is_gone() and time.monotonic() < until:
            time.sleep(0.01)

    def _write(self, content: dict) -> None:
        assert self.process.stdin is not None
        # The process may die at any moment: the listening thread then says so, which is the one place where it is
        # handled.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(content).encode() + b"\n")
            self.process.stdin.flush()

    def _last_words(self) -> str:
        self.words.seek(0)
        text = " ".join(self.words.read().decode(errors="replace").split())[-LAST_WORDS:]
        return f": {text}" if text else ""


type Heard = tuple[Worker, Event | JobEnd | None]
"""What a worker said; None once it will not say more."""


def spawn(number: int, slot: Slot, heard: "queue.Queue[Heard]") -> Worker:
    """Start a worker whose answers arrive in the queue."""
    words = tempfile.TemporaryFile(prefix="qat-worker-")  # noqa: SIM115 - closed with the worker
    process = subprocess.Popen(
        command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=words,
        env={**os.environ, **slot.environment},
        # A group of its own: with it everything that the job started can be ended in one call.
        start_new_session=True,
    )
    worker = Worker(number, process, words)
    # Set by the worker itself, before it imports jax, whose threads inherit it.
    affinity = list(slot.cores) if hasattr(os, "sched_setaffinity") else []
    worker._write({"parent": os.getpid(), "cores": affinity})
    threading.Thread(target=_listen, args=(worker, heard), daemon=True).start()
    return worker


def _listen(worker: Worker, heard: "queue.Queue[Heard]") -> None:
    assert worker.process.stdout is not None
    with worker.process.stdout as answers:
        # Invariant: events enter the queue in the order in which the worker said them, and None comes last, exactly
        # once.
        for line in answers:
            with contextlib.suppress(ValueError):  # cut off by its death
                heard.put((worker, from_json(json.loads(line))))
    heard.put((worker, None))


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            psutil.Process(pid).kill()
        else:
            os.killpg(pid, signal.SIGKILL)
