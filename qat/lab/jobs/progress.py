"""Progress of a sweep in numbers: for the display, and for readers in other processes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Running:
    """A job under way: `since` is when it began, in seconds since 1970; `steps` is 0 while it has not said more."""

    label: str
    kind: str
    where: str
    since: float
    attempt: int
    what: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None

    @property
    def share(self) -> float:
        """The share of the present activity that is done, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


@dataclass(frozen=True)
class Tally:
    """Jobs of a sweep by state; `seconds_left` is an estimate, None while there is nothing to make one from."""

    total: int
    finished: int
    failed: int
    running: int
    elsewhere: int
    seconds_left: float | None


def seconds_left(
    waiting: Iterable[str], running: Iterable[Running], took: Mapping[str, Sequence[float]], at_once: int
) -> float | None:
    """Estimated seconds until all is done: `took` holds the seconds of finished jobs by kind, `waiting` the kinds of
    jobs that have not begun, and `at_once` says how many run at a time. None where nothing has finished yet."""
    known = {kind: fmean(seconds) for kind, seconds in took.items() if seconds}
    if not known:
        return None
    # A kind that never finished is taken for an average one; better than to say nothing until the first trial is
    # over.
    usual = fmean(known.values())
    work = sum(known.get(kind, usual) for kind in waiting)
    now = time.time()
    # A job that takes longer than its kind did adds nothing rather than less than nothing.
    for job in running:
        expected = known.get(job.kind, usual)
        work += max(0.0, expected - (now - job.since))
    return work / max(1, at_once)


def duration(seconds: float) -> str:
    """Seconds for a person: `0.4 s`, `52 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
