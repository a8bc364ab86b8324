"""One job done in this process: its function found by name, its progress passed on, its failure made plain."""

import importlib
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qat.fileio import describe_error, may_pass, place, refusal
from qat.lab.jobs.compiling import watched
from qat.lab.jobs.events import Emit, Failed, Finished, JobEnd, JobRequest, Kind, Overtaken, Progress, Started
from qat.lab.jobs.job import Report
from qat.lab.jobs.log import LOG_FILE, logged, where
from qat.lab.jobs.presence import lock
from qat.lab.jobs.turns import Share

TELL_EVERY = 0.1  # seconds between two reports of progress that are passed on
LOOK_EVERY = 2.0  # seconds between two looks for another runner that took the job over
SEEN_WITHIN = 30.0  # seconds that a shared disk may take to show what another machine has written
LONGEST_ERROR = 500  # characters of the one line that stands for a failure


class TakenOver(Exception):  # noqa: N818 - no error of the job
    """Raised inside a job by its report when another runner does it now."""


type How = Literal["map", "vmap"]


@dataclass(frozen=True)
class Sharing:
    """The way in which jobs do together what they have in common: one after the other within a program (`map`) or side
    by side (`vmap`), so many steps a call, in so many GB of memory (None: as is available)."""

    how: How = "map"
    chunk: int = 50
    memory_gb: float | None = None


def perform(
    request: JobRequest,
    emit: Emit,
    caught: tuple[type[BaseException], ...] = (Exception, SystemExit),
    share: Share | None = None,
) -> JobEnd:
    """Do the job and say how it ended; what is `caught` does not leave this function, an interrupt does.

    Work that can `share` with other jobs is handed that as a fourth argument.
    """
    started = time.monotonic()
    try:
        work = function(request.work)
        with watched(request.job, emit) as emit_all:
            report = reporter(request, emit_all)
            work(request.root, request.payload, report, *([] if share is None else [share]))
    # First, as it is an `Exception` too and would pass for a failure of the job.
    except TakenOver:
        return Overtaken(request.job)
    except caught as error:
        return failed(request.job, error)
    return Finished(request.job, round(time.monotonic() - started, 3))


def perform_logged(request: JobRequest, emit: Emit) -> JobEnd:
    """Do the job in a process of its own: report that it began, and send its output to the job's log."""
    emit(Started(request.job, where()))
    place = Path(request.root) / request.job
    try:
        # Before the folder is made: on a machine without the shared disk a folder of that name would hide the
        # mistake.
        _check_shared(request)
        place.mkdir(parents=True, exist_ok=True)
        # The lock keeps this attempt from writing where a worker that outlived its runner still does.
        with lock(place / LOG_FILE), logged(place):
            end = perform(request, emit, (BaseException,))  # nobody interrupts such a process: it is killed
            if isinstance(end, Failed):
                sys.stderr.write(end.traceback)
    except (OSError, ValueError) as error:  # of the log or the folder
        end = failed(request.job, error)
    return end


def _check_shared(request: JobRequest) -> None:
    """Raise `ValueError` where the claim of the job is not to be seen: this machine has another disk at that path."""
    claims, until = Path(request.fence).parent, time.monotonic() + SEEN_WITHIN
    # Invariant: the claim was made before the job was submitted, so on a shared disk its folder appears sooner or
    # later.
    while not claims.exists():
        if time.monotonic() > until:
            raise ValueError(
                f"`--runs` must be a folder that all machines share, but {request.root!r} is another one on "
                f"{socket.gethostname()}. Choose one on a shared disk."
            )
        time.sleep(TELL_EVERY)


def sharing(work: str) -> Callable[[Sequence[Any], Sharing, Callable[[str], None]], Sequence[Any]] | None:
    """`together` of the module that a work function is in, None where it has none: it answers what jobs of that work
    ask for, given the requests, how they are to share, and what tells the user a line."""
    return getattr(sys.modules[function(work).__module__], "together", None)


def function(work: str) -> Callable[..., None]:
    """Import the function that `module:function` names. Raises `ValueError` where there is no such function."""
    module, _, name = work.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        # The module is there, but imports one that is not: that error says more than ours would.
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise
        raise ValueError(f"`work` must name a function as 'module:function', got {work!r} ({error}).") from error


def reporter(request: JobRequest, emit: Emit) -> Report:
    """A report that passes on what is new, not every step, and stops the job once another runner has taken it over."""
    fence = Path(request.fence)
    last, looked, doing = 0.0, time.monotonic(), ""

    def report(what: str, step: int, steps: int, loss: float | None) -> None:
        nonlocal last, looked, doing
        now = time.monotonic()
        # A look is a request to the disk, and a step may take a millisecond, so time decides, not the number of
        # steps. The job stops at its next report, which bounds for how long two runners do the same work.
        if now - looked >= LOOK_EVERY:
            looked = now
            if fence.exists():
                raise TakenOver
        # Beginnings and ends are always passed on, or a display would stop short of the last step.
        if what != doing or step >= steps or now - last >= TELL_EVERY:
            last, doing = now, what
            emit(Progress(request.job, what, int(step), int(steps), None if loss is None else float(loss)))

    return report


def failed(job: str, error: BaseException) -> Failed:
    """Describe an exception of a job as its failure."""
    text = "".join(traceback.format_exception(error))
    kind = _kind(error)
    again = kind == "memory" or may_pass(error)
    return Failed(job, kind, _line(error), text, refusal(error), again)


def _kind(error: BaseException) -> Kind:
    out_of_memory = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
    return "memory" if out_of_memory else "error"


def _line(error: BaseException) -> str:
    """One line, and the place where it is one of the user's; a `ValueError` speaks for itself, anything else is
    named."""
    message = " ".join(str(error).split())
    line = message if type(error) is ValueError and message else " ".join(describe_error(error).split())
    line = line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 3]}..."
    found = place(error)
    return f"{line} ({found})" if found else line
