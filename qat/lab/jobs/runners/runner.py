"""The interface of a runner, which has room for jobs, starts them and reports how they ended; and the simplest one, of
jobs one after another in this process."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from qat.lab.jobs.events import Emit, Failed, JobEnd, JobRequest, Started
from qat.lab.jobs.log import append_log, header, where
from qat.lab.jobs.programs import kept
from qat.lab.jobs.run_one import perform
from qat.lab.jobs.threads import threads
from qat.lab.jobs.turns import Share
from qat.registry import Registry


class Runner(Protocol):
    """Runs jobs somewhere, several at a time where it can."""

    def room(self) -> int:
        """The number of further jobs that it would start now."""
        ...

    def start(self, request: JobRequest) -> None:
        """Begin a job, there being room for it."""
        ...

    def wait(self, timeout: float) -> list[JobEnd]:
        """The jobs that ended, after waiting for at most about `timeout` seconds; all else that is new goes to the
        `emit` that the runner was opened with, or has gone there already."""
        ...

    def close(self) -> None:
        """End all that still runs, leaving nothing behind."""
        ...


type RunnerFactory = Callable[[Emit], Runner]
"""Makes the runner, once a sweep begins: what it has to say goes to the function that it is given."""

runners: Registry[RunnerFactory] = Registry("runner")
"""Runners by name."""
register = runners.register
"""Make a function that returns a `RunnerFactory` known under its name; use as a decorator."""


def one_here(request: JobRequest, emit: Emit, share: Share | None = None) -> JobEnd:
    """Do a job in this process; what it prints goes where this process prints, its failure to its log too."""
    emit(Started(request.job, where()))
    end = perform(request, emit, share=share)
    # A disk that refused the job would refuse the log too, and hide the first error.
    if isinstance(end, Failed) and not end.refused:
        append_log(Path(request.root) / request.job, header() + end.traceback)
    return end


class InProcess:
    """A job that was started runs when it is waited for; what it prints goes where this process prints."""

    def __init__(self, emit: Emit):
        self._emit = emit
        self._next: JobRequest | None = None
        self._programs = contextlib.ExitStack()
        self._programs.enter_context(kept(threads()))

    def room(self) -> int:
        """One while no job waits to be run, else none."""
        return 0 if self._next else 1

    def start(self, request: JobRequest) -> None:
        """Take the job for the next `wait`."""
        # Not run here: the scheduler calls `start` with a state that is only consistent once it returns.
        self._next = request

    def wait(self, timeout: float) -> list[JobEnd]:
        """Run the job to its end, whatever time it takes."""
        if self._next is None:
            time.sleep(timeout)
            return []
        request, self._next = self._next, None
        return [one_here(request, self._emit)]

    def close(self) -> None:
        """Stop keeping compiled programs; nothing else is left to end."""
        self._next = None
        self._programs.close()


@register
def inprocess() -> RunnerFactory:
    """This process, one job at a time."""
    return InProcess
