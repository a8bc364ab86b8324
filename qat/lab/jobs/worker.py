"""A worker: a process that does jobs one after another, so that what jax compiled for one serves the next.

It reads JSON lines from its standard input: first how to set itself up, then jobs, one at a time. It answers on its
standard output: for each job what happens and how it ended. It ends when its input does, which is also when the process
that started it was killed, and takes with it what it started itself.
"""

import ctypes
import faulthandler
import io
import json
import os
import queue
import signal
import sys
import threading
from typing import IO, Any, cast

from qat.lab.jobs.events import Event, JobEnd, JobRequest, to_json
from qat.lab.jobs.run_one import perform_logged

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from qat.lab.jobs.worker import main; main()"


def command() -> list[str]:
    """Starts a worker that imports what this process can import."""
    return [sys.executable, "-c", BOOTSTRAP, json.dumps(sys.path)]


def main() -> None:
    """Serve until the input ends."""
    # Before anything is imported that may print: the pipe carries JSON lines and nothing else.
    answers = os.fdopen(_keep_stdout(), "w", encoding="utf-8", buffering=1)
    setup = json.loads(sys.stdin.readline())
    _die_with(setup["parent"])
    if setup["cores"]:
        os.sched_setaffinity(0, setup["cores"])
    if hasattr(signal, "SIGUSR1"):  # sent to a worker that hangs, so that its log tells where
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    faulthandler.enable()

    jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(jobs, busy), daemon=True).start()
    # Invariant: one job at a time, each answered by exactly one end, whatever it raises. A thread of its own reads
    # the input, so that its end is noticed while a job runs.
    while (job := jobs.get()) is not None:
        end = perform_logged(JobRequest(**job), lambda news: _say(answers, news))
        busy.clear()  # before the answer, which may bring the next job
        _say(answers, end)


def _say(answers: IO[str], event: Event | JobEnd) -> None:
    answers.write(json.dumps(to_json(event)) + "\n")


def _read(jobs: "queue.Queue[dict[str, Any] | None]", busy: threading.Event) -> None:
    """Pass jobs on. At the end of the input an idle worker finishes, a busy one dies with all that it started."""
    for line in sys.stdin:
        busy.set()
        jobs.put(json.loads(line))
    # The parent is gone, or closed the pipe to end us: a job that nobody listens to any more must not go on.
    if busy.is_set():
        end_group()
    jobs.put(None)


def end_group() -> None:
    """Kill this process and all of its group, where the group is its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _keep_stdout() -> int:
    """A descriptor of what was standard output, for answers alone: prints go to standard error until there is a log."""
    kept = os.dup(1)
    os.dup2(2, 1)
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    return kept


def _die_with(parent: int) -> None:
    """Have Linux tell this process when its parent ended, should something else keep its input open."""
    signal.signal(signal.SIGTERM, lambda *_: end_group())
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(DEATH_SIGNAL, signal.SIGTERM)
    # The parent may have ended before the signal was asked for, which then never comes.
    if os.getppid() != parent:
        os._exit(1)
