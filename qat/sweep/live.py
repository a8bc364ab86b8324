"""A sweep as it runs, drawn on a terminal: a bar for the whole and for each running job, lines for what is over."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from rich import live
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from qat.sweep.alive import Holder
from qat.sweep.failure import Failure
from qat.sweep.job import Job
from qat.sweep.tally import Running, Tally, duration
from qat.sweep.view import Describe, Lines


class Steps(ProgressColumn):
    """How far a job is and how fast it goes."""

    def render(self, task: Any) -> Text:
        """`30/120 12.5 steps/s`, each part once it is known."""
        done = f"{task.completed:.0f}/{task.total:.0f}" if task.total else ""
        return Text(done + (f" {task.speed:.1f} steps/s" if task.speed else ""))


class Live:
    """What `Lines` says, above bars."""

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
        """The whole bar has its length."""
        self._lines.begin(jobs, before)

    def running(self, job: Job, running: Running) -> None:
        """The job's bar, from its first sign on."""
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
        """Its line instead of its bar."""
        self._remove(job)
        self._lines.finished(job, seconds)

    def retried(self, job: Job, failure: Failure) -> None:
        """Its line instead of its bar."""
        self._remove(job)
        self._lines.retried(job, failure)

    def failed(self, job: Job, failure: Failure) -> None:
        """Its line instead of its bar."""
        self._remove(job)
        self._lines.failed(job, failure)

    def held(self, job: Job, holder: Holder | None) -> None:
        """Its line."""
        self._remove(job)
        self._lines.held(job, holder)

    def waiting(self, jobs: Sequence[Job]) -> None:
        """Its line."""
        self._lines.waiting(jobs)

    def note(self, text: str) -> None:
        """Its line."""
        self._lines.note(text)

    def tally(self, tally: Tally) -> None:
        """The whole bar, with what does not show in it."""
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
