"""The interface of a runner: it has room for jobs, starts them, and reports how they ended."""

from collections.abc import Callable
from typing import Protocol

from qat.lab.jobs.events import Emit, JobEnd, JobRequest
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
register = runners.register
