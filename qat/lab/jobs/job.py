"""A unit of work that a runner starts: a stage that trials share, or a trial."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

type Report = Callable[[str, int, int, float | None], None]
"""Told while a job runs: what it is doing, steps done, steps in all, and the newest loss."""


@dataclass(frozen=True)
class Job:
    """Work with a name of its own in the study's folder.

    `id` names its folder, relative to the study's root (`stages/float-1f0c...`, `trials/...`), and changes with
    whatever its result depends on, or (for a trial) the `key` does. It may start once all jobs in `needs` are finished.
    `payload` is plain JSON: with the root all that `run_job` needs, in this process or on another machine.
    """

    id: str
    kind: str
    label: str
    key: str
    needs: tuple[str, ...]
    payload: Mapping[str, Any]


def check(jobs: Sequence[Job]) -> None:
    """Raise `ValueError` where two jobs have one id, or one needs what does not come before it."""
    seen = set[str]()
    for job in jobs:
        if job.id in seen:
            raise ValueError(f"`jobs` must have ids of their own, but two are called {job.id!r}.")
        for need in job.needs:
            if need not in seen:
                raise ValueError(
                    f"`jobs` must come after what they need, but {job.id!r} needs {need!r}, which does not."
                )
        seen.add(job.id)


def wanted(jobs: Sequence[Job], finished: Collection[str], damaged: Collection[str] = ()) -> list[Job]:
    """Select the jobs that must run: unfinished ones that no job needs or that are `damaged`, and the unfinished ones
    that these need in turn.

    A stage that only finished jobs need is not made again unless it is damaged.
    """
    needed = {need for job in jobs for need in job.needs}
    ids = set[str]()
    # Invariant: every job behind this one is decided, and `ids` holds those that must run with all that they need.
    # Needs come first in `jobs`, so backwards each job is met after all that may ask for it.
    for job in reversed(jobs):
        if job.id not in finished and (job.id not in needed or job.id in ids or job.id in damaged):
            ids.add(job.id)
            ids.update(job.needs)
    return [job for job in jobs if job.id in ids and job.id not in finished]


def dependents(jobs: Iterable[Job], failed: str) -> list[Job]:
    """The jobs, in order, that need `failed`, or need one that does."""
    # One pass is enough, as jobs come after what they need.
    found, ids = [], {failed}
    for job in jobs:
        if ids.intersection(job.needs):
            found.append(job)
            ids.add(job.id)
    return found
