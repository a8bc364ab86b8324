"""Progress of a sweep for a person: as plain lines, as bars drawn on a terminal, or silent."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from rich import live
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from qat.lab.jobs.job import Job
from qat.lab.jobs.log import Failure
from qat.lab.jobs.presence import ProcessId
from qat.lab.jobs.progress import Running, Tally, duration

COMPILING = "compiling "

type Describe = Callable[[Job], str]
"""What to say of a finished job: `ptq w8a8, seed 1: accuracy 97.56 %`."""


class View(Protocol):
    """A receiver of a sweep's progress; all calls come from the thread that runs the sweep."""

    def begin(self, jobs: Sequence[Job], before: Sequence[Job]) -> None:
        """Receive all jobs of the sweep, and the ones (`before`) that are finished already."""
        ...

    def running(self, job: Job, running: Running) -> None:
        """Show that a job began, or has gone on."""
        ...

    def finished(self, job: Job, seconds: float | None) -> None:
        """Show that a job is done; `seconds` is None where another process did it."""
        ...

    def retried(self, job: Job, failure: Failure) -> None:
        """Show that a job failed and will be tried again."""
        ...

    def failed(self, job: Job, failure: Failure) -> None:
        """Show that a job failed for good."""
        ...

    def held(self, job: Job, holder: ProcessId | None) -> None:
        """Show that another process does this job; None where it is not known which."""
        ...

    def waiting(self, jobs: Sequence[Job]) -> None:
        """Show that nothing is left to do here but to wait for jobs that others do."""
        ...

    def note(self, text: str) -> None:
        """Show a text."""
        ...

    def tally(self, tally: Tally) -> None:
        """Show the counts of jobs by state."""
        ...


class Lines:
    """A line for each job that is done, numbered where it counts as a trial, and for whatever else happens."""

    def __init__(self, console: Console, describe: Describe):
        self._console, self._describe = console, describe
        self._counted = self._total = 0
        self._others: set[str] = set()
        self._compiling: set[str] = set()
        self._waiting: tuple[str, ...] = ()

    def begin(self, jobs: Sequence[Job], before: Sequence[Job]) -> None:
        """Print how much of the sweep was finished already."""
        self._total, self._counted = sum(map(is_trial, jobs)), sum(map(is_trial, before))
        if self._counted:
            self._print(f"{self._counted} of {self._total} trials are finished already.")

    def running(self, job: Job, running: Running) -> None:
        """Print once for each job that it compiles for long; other progress has no lines."""
        if COMPILING in running.what and job.id not in self._compiling:
            self._compiling.add(job.id)
            self._print(f"{job.label}: {running.what[running.what.index(COMPILING) :]} ...")

    def finished(self, job: Job, seconds: float | None) -> None:
        """Print the job's line."""
        took = "elsewhere" if seconds is None else duration(seconds)
        self._print(f"{self._number(job)}  {self._describe(job)}, {took}")

    def retried(self, job: Job, failure: Failure) -> None:
        """Print the failure and that another try follows."""
        self._print(f"{job.label} failed ({failure.kind}) and will be tried again: {failure.error}", "yellow")

    def failed(self, job: Job, failure: Failure) -> None:
        """Print the failure in the place of the job's line."""
        self._print(f"{self._number(job)}  {job.label} FAILED ({failure.kind}): {failure.error}", "red")

    def held(self, job: Job, holder: ProcessId | None) -> None:
        """Print once for each other process that it works on the folder too."""
        name = f"Process {holder.pid} on {holder.host}" if holder else "Another process"
        if name not in self._others:
            self._others.add(name)
            self._print(f"{name} works on this folder too; what it does is not done twice.")

    def waiting(self, jobs: Sequence[Job]) -> None:
        """Print which jobs of others are waited for, once for the same jobs."""
        ids = tuple(job.id for job in jobs)
        if ids != self._waiting:
            self._waiting = ids
            names = ", ".join(job.label for job in jobs[:3]) + (", ..." if len(jobs) > 3 else "")
            self._print(f"Waiting for what is done elsewhere: {names}.")

    def note(self, text: str) -> None:
        """Print the text."""
        self._print(text)

    def tally(self, tally: Tally) -> None:
        """Do nothing: the lines are numbered."""

    def _number(self, job: Job) -> str:
        width = len(str(self._total))
        if not is_trial(job):
            return " " * (2 * width + 2)
        self._counted += 1
        return f"{self._counted:{width + 1}}/{self._total}"

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


SILENT: View = Lines(Console(quiet=True), lambda job: job.label)


def is_trial(job: Job) -> bool:
    """Whether a job counts for a person: the others are what trials share."""
    return job.kind == "trial"


@contextlib.contextmanager
def open_view(console: Console, describe: Describe) -> Iterator[View]:
    """A live display where `console` is a terminal, else plain lines."""
    if not console.is_terminal:
        # Bars in a log file would be thousands of lines.
        yield Lines(console, describe)
        return
    from qat.lab.jobs.display import Live

    with Live(console, describe).shown() as live:
        yield live


class Steps(ProgressColumn):
    """A column with a job's steps and their speed."""

    def render(self, task: Any) -> Text:
        """`30/120 12.5 steps/s`, each part once it is known."""
        done = f"{task.completed:.0f}/{task.total:.0f}" if task.total else ""
        return Text(done + (f" {task.speed:.1f} steps/s" if task.speed else ""))


class Live:
    """Bars for running jobs below the lines of `Lines`."""

    def __init__(self, console: Console, describe: Describe):
        self._lines, self._console = Lines(console, describe), console
        self._whole = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}", markup=False),
            console=console,
        )
        self._jobs = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            Steps(),
            TextColumn("{task.fields[more]}", markup=False),
            console=console,
        )
        self._task = self._whole.add_task("jobs", total=None, counts="")
        self._bars: dict[str, TaskID] = {}

    @contextlib.contextmanager
    def shown(self) -> Iterator["Live"]:
        """Draw until the block ends; the lines stay, the bars go."""
        with live.Live(Group(self._jobs, self._whole), console=self._console, transient=True, refresh_per_second=4):
            yield self

    def begin(self, jobs: Sequence[Job], before: Sequence[Job]) -> None:
        """Give the sweep's bar its length."""
        self._lines.begin(jobs, before)

    def running(self, job: Job, running: Running) -> None:
        """Draw the job's bar, from its first report on."""
        if job.id not in self._bars:
            self._bars[job.id] = self._jobs.add_task(job.label, total=None, more="")
        more = [running.what if running.what not in job.label else ""]
        more.append("" if running.loss is None else f"loss {running.loss:.4g}")
        self._jobs.update(
            self._bars[job.id],
            total=running.steps or None,
            completed=running.step,
            more="  ".join(filter(None, more)),
        )

    def finished(self, job: Job, seconds: float | None) -> None:
        """Replace the job's bar by its line."""
        self._remove(job)
        self._lines.finished(job, seconds)

    def retried(self, job: Job, failure: Failure) -> None:
        """Replace the job's bar by the line of its failure, until it is tried again."""
        self._remove(job)
        self._lines.retried(job, failure)

    def failed(self, job: Job, failure: Failure) -> None:
        """Replace the job's bar by the line of its failure."""
        self._remove(job)
        self._lines.failed(job, failure)

    def held(self, job: Job, holder: ProcessId | None) -> None:
        """Remove the job's bar, and print that another process does the job."""
        self._remove(job)
        self._lines.held(job, holder)

    def waiting(self, jobs: Sequence[Job]) -> None:
        """Print which jobs of others are waited for."""
        self._lines.waiting(jobs)

    def note(self, text: str) -> None:
        """Print the text."""
        self._lines.note(text)

    def tally(self, tally: Tally) -> None:
        """Draw the sweep's bar with the counts and the time left beside it."""
        soon = tally.seconds_left is None or tally.seconds_left < 1
        left = None if soon else f"about {duration(tally.seconds_left or 0.0)} left"
        counts = [
            f"{tally.running} running" if tally.running else None,
            f"{tally.failed} failed" if tally.failed else None,
            f"{tally.elsewhere} elsewhere" if tally.elsewhere else None,
            left,
        ]
        done = tally.finished + tally.failed
        text = ", ".join(filter(None, counts))
        self._whole.update(self._task, total=tally.total, completed=done, counts=text)

    def _remove(self, job: Job) -> None:
        if job.id in self._bars:
            self._jobs.remove_task(self._bars.pop(job.id))
