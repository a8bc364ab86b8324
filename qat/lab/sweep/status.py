"""Status of a sweep that runs in another process, or on another machine, from the files of its folder alone."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qat.lab.jobs.log import Failure, read_failure
from qat.lab.jobs.presence import ProcessId, is_dead, modified, presences, process_id_from
from qat.lab.jobs.progress import Running, duration
from qat.lab.runs.finished import faults_in, has_ended
from qat.lab.runs.record import read_record
from qat.lab.runs.study_folder import TRIALS, read_study, stage_jobs


@dataclass(frozen=True)
class Held:
    """A job that a process has begun, and how many seconds ago that process last gave a sign of life."""

    id: str
    running: Running
    holder: ProcessId
    silent: float


@dataclass(frozen=True)
class Status:
    """A study's trials by state, as its folder shows them.

    `damaged` are lines by job for files of finished trials and stages that are not as they were written; such trials do
    not count as finished. `threads` are the numbers that XLA computed the finished ones with. `running` and `failed`
    are of stages that trials share as well, by job id. `abandoned` jobs were begun by a process that has died since:
    the next sweep takes them up. `seconds_left` is what the running processes estimate, None where they cannot or there
    are none.
    """

    name: str
    trials: int
    finished: tuple[str, ...]
    running: tuple[Held, ...]
    failed: Mapping[str, Failure]
    abandoned: tuple[Held, ...]
    seconds_left: float | None
    damaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    threads: tuple[int, ...] = ()

    def __rich__(self) -> RenderableType:
        return rendered(self)


def status(root: Path, check: bool = False) -> Status:
    """Read the status of the study in `root`. Raises `ValueError` where there is none.

    Of the files of what is finished the sizes are compared with what was written, with `check` the contents.
    """
    study = read_study(root)
    done = [name for name in study.trials if has_ended(root / TRIALS / name)]
    damaged = _damaged(root, done, check)
    finished = [name for name in done if f"{TRIALS}/{name}" not in damaged]
    running, dead, estimates = _held(root)
    ids = {held.id for held in running}
    failed = {name: failure for name, failure in _failures(root, list(study.trials)).items() if name not in ids}
    abandoned = [held for held in dead if held.id not in {*ids, *failed} and not has_ended(root / held.id)]
    left = 1 / sum(1 / seconds for seconds in estimates) if estimates and min(estimates) > 0 else None
    return Status(
        name=study.name,
        trials=len(study.trials),
        finished=tuple(finished),
        running=tuple(running),
        failed=failed,
        abandoned=tuple(abandoned),
        seconds_left=left,
        damaged=damaged,
        threads=_threads(root, finished),
    )


def _threads(root: Path, trials: list[str]) -> tuple[int, ...]:
    """All numbers of threads that finished trials and their stages were made with."""
    found: set[int] = set()
    for name in trials:
        with suppress(ValueError):
            record = read_record(root / TRIALS / name)
            found |= set(record.threads.values()) if record is not None else set()
    return tuple(sorted(found))


def _damaged(root: Path, trials: list[str], check: bool) -> dict[str, tuple[str, ...]]:
    """Faults in files of finished trials and stages, by job."""
    jobs = [*stage_jobs(root), *(f"{TRIALS}/{name}" for name in trials)]
    found = {job: tuple(faults_in(root / job, by_size=not check)) for job in jobs}
    return {job: lines for job, lines in found.items() if lines}


def _held(root: Path) -> tuple[list[Held], list[Held], list[float]]:
    """Jobs of living processes and of dead ones, and the estimates of the former: each would do all that is left, by
    itself, in so many seconds."""
    living, dead, estimates = list[Held](), list[Held](), list[float]()
    for path, found in presences(root):
        with suppress(KeyError, TypeError, AttributeError):  # damaged: its process writes it anew
            holder = process_id_from(found)
            silent = max(0.0, time.time() - (modified(path) or 0.0))
            jobs = [Held(name, _running(job), holder, silent) for name, job in found.get("jobs", {}).items()]
            if is_dead(root, holder, None, time.time()):
                dead += jobs
            else:
                living += jobs
                estimates += [found["seconds_left"]] if found.get("seconds_left") is not None else []
    return living, dead, estimates


def _running(found: Mapping[str, Any]) -> Running:
    return Running(**{field.name: found[field.name] for field in fields(Running)})


def _failures(root: Path, trials: list[str]) -> dict[str, Failure]:
    names = [*stage_jobs(root), *(f"{TRIALS}/{name}" for name in trials)]
    return {name: failure for name in names if (failure := read_failure(root / name)) is not None}


def rendered(found: Status) -> RenderableType:
    """The status as a table for the terminal."""
    parts: list[RenderableType] = [Text(_headline(found))]
    for title, jobs in (("running", found.running), ("abandoned: run the same sweep again", found.abandoned)):
        if jobs:
            parts += [Text(), _jobs(title, jobs)]
    if len(found.threads) > 1:
        numbers = " and ".join(map(str, found.threads))
        note = f"made with {numbers} threads: equal trials may differ in last digits, and in what follows from them"
        parts += [Text(), Text(note, style="yellow")]
    if found.damaged:
        parts += [Text(), Text("damaged: run the same sweep again, which does these alone again", style="yellow")]
        parts += [Text(f"  {line}") for lines in found.damaged.values() for line in lines]
    if found.failed:
        parts += [Text(), _failed(found.failed)]
    return Group(*parts)


def _headline(found: Status) -> str:
    trials = [held for held in found.running if held.running.kind == "trial"]
    shared = len(found.running) - len(trials)
    failed = [name for name in found.failed if name.startswith(f"{TRIALS}/")]
    damaged = [name for name in found.damaged if name.startswith(f"{TRIALS}/")]
    rest = found.trials - len(found.finished) - len(trials) - len(failed) - len(damaged)
    parts = [f"{len(found.finished)} of {found.trials} trials finished"]
    parts += [
        f"{len(group)} {name}"
        for name, group in (("running", trials), ("failed", failed), ("damaged", damaged))
        if group
    ]
    parts += [f"{rest} to do"] if rest > 0 else []
    parts += [f"{shared} shared stage{'s' if shared > 1 else ''} under way"] if shared else []
    left = "" if found.seconds_left is None else f"; about {duration(found.seconds_left)} left"
    nobody = "; nobody works on it" if rest > 0 and not found.running else ""
    return f"{found.name}: {', '.join(parts)}{left}{nobody}"


def _jobs(title: str, jobs: tuple[Held, ...]) -> Table:
    table = _table(title, "job", "doing", "step", "loss", "since", "where", "last seen")
    for held in jobs:
        one = held.running
        table.add_row(
            Text(one.label or held.id),
            Text(one.what),
            f"{one.step}/{one.steps} ({one.share:.0%})" if one.steps else "",
            "" if one.loss is None else f"{one.loss:.4g}",
            duration(max(0.0, time.time() - one.since)),
            Text(one.where or f"{held.holder.host}, pid {held.holder.pid}"),
            f"{duration(held.silent)} ago",
        )
    return table


def _failed(failures: Mapping[str, Failure]) -> Table:
    table = _table("failed", "job", "why", "tries", "error")
    for name, failure in failures.items():
        table.add_row(Text(name), failure.kind, str(failure.attempts or ""), Text(failure.error))
    return table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
