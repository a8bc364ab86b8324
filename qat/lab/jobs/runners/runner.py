"""The interface of a runner: it has room for jobs, starts them, and reports how they ended."""

from collections.abc import Callable
from typing import Protocol

from qat.lab.jobs.events import End, Errand, Tell
from qat.registry import Registry


class Runner(Protocol):
    """Runs jobs somewhere, several at a time where it can."""

    def room(self) -> int:
        """The number of further jobs that it would start now."""
        ...

    def start(self, errand: Errand) -> None:
        """Begin a job, there being room for it."""
        ...

    def wait(self, timeout: float) -> list[End]:
        """The jobs that ended, after waiting for at most about `timeout` seconds; all else that is new goes to the
        `tell` that the runner was opened with, or has gone there already."""
        ...

    def close(self) -> None:
        """End all that still runs, leaving nothing behind."""
        ...


type Opening = Callable[[Tell], Runner]
"""Makes the runner, once a sweep begins: what it has to say goes to the function that it is given."""

runners: Registry[Opening] = Registry("runner")
register = runners.register
