"""How long the open jobs of a study will take on this machine: a range, and what it rests on."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qat.files import DONE_FILE
from qat.record import read_record
from qat.sweep.counting import TRAINING, products_of, programs_of, rate, steps_of
from qat.sweep.job import Job
from qat.sweep.plan import finished

EFFICIENCY = (0.05, 0.8)  # of a matrix product's rate, that a training reaches: small models the least
STEP_SECONDS = (2e-4, 5e-3)  # of a training step beside its products
JOB_SECONDS = (0.05, 1.0)  # of a job beside its steps
START_SECONDS = {"float": (2, 15), "control": (0.1, 15), "calibration": (1, 20), "qat": (3, 20), "trial": (1, 20)}
"""To compile what a kind of job runs; a control runs what the float training did."""

type Probe = Callable[[Sequence[Job]], dict[str, "Measured"]]


@dataclass(frozen=True)
class Measured:
    """Seconds of a kind of job: once, to compile and start, and of each training step."""

    start: float
    step: float


@dataclass(frozen=True)
class Cost:
    """The jobs of one kind: how many, of which so many are finished, and for how many trials; the seconds that the
    open ones will take one after another, at least and at most; what that rests on."""

    kind: str
    jobs: int
    finished: int
    trials: int
    low: float
    high: float
    basis: str


def estimate(jobs: Sequence[Job], root: Path | None, probe: Probe | None = None) -> list[Cost]:
    """The cost of every kind of job in `jobs`.

    It rests on finished jobs of the same kind in `root`; else, with `probe` (`qat.sweep.probe.measure`), on a few steps
    that are run now; else on counting multiply-accumulates, at the rate of a matrix product that is timed now.
    """
    done = {job.id: _seconds(root, job) for job in jobs if root is not None and finished(root, job)}
    missing = [job for job in jobs if not any(other.kind == job.kind and other.id in done for other in jobs)]
    measured = probe(missing) if probe and missing else {}
    return [_cost(kind, jobs, done, measured) for kind in dict.fromkeys(job.kind for job in jobs)]


def _cost(kind: str, jobs: Sequence[Job], done: dict[str, float], measured: dict[str, Measured]) -> Cost:
    ours = [job for job in jobs if job.kind == kind]
    left = [job for job in ours if job.id not in done]
    known = [(job, done[job.id]) for job in ours if math.isfinite(done.get(job.id, math.nan))]
    if not left:
        low, high, basis = 0.0, 0.0, "nothing is left to do"
    elif known:
        low, high = _like_finished(left, known)
        basis = f"{len(known)} finished here"
    elif kind in measured:
        low, high = _like_measured(left, measured[kind])
        basis = "a few steps, run now"
    else:
        low, high = _by_counting(left)
        basis = f"counted, at {rate() / 1e9:.0f} GMAC/s"
    return Cost(kind, len(ours), len(ours) - len(left), _trials(ours, jobs), low, high, basis)


def _like_finished(left: Sequence[Job], known: Sequence[tuple[Job, float]]) -> tuple[float, float]:
    """The first job of a kind compiles for all, so one alone says little of the others, and the mean more than most."""
    rates = [seconds / _units(job) for job, seconds in known]
    if len(rates) < 3:
        low, high = min(rates) / 10, 2 * max(rates)
    else:
        low, high = 0.7 * statistics.median(rates), 1.5 * statistics.fmean(rates)
    units = sum(_units(job) for job in left)
    return units * min(low, high), units * high


def _like_measured(left: Sequence[Job], found: Measured) -> tuple[float, float]:
    """Compiled once for all, or for each program by itself."""
    steps = found.step * sum(steps_of(job) for job in left)
    least, most = (each * len(left) for each in JOB_SECONDS)
    return 0.7 * (found.start + steps) + least, 1.5 * (found.start * programs_of(left) + steps) + most


def _by_counting(left: Sequence[Job]) -> tuple[float, float]:
    """From nearly the rate of a matrix product to what the smallest models take."""
    seconds, steps = sum(products_of(job) for job in left) / rate(), sum(steps_of(job) for job in left)
    starts, programs = START_SECONDS[left[0].kind], (1, programs_of(left))
    low, high = (
        starts[i] * programs[i] + JOB_SECONDS[i] * len(left) + seconds / EFFICIENCY[1 - i] + STEP_SECONDS[i] * steps
        for i in (0, 1)
    )
    return low, high


def _units(job: Job) -> float:
    """What the time of a job of one kind grows with: products of a training, else the jobs themselves."""
    return float(products_of(job)) if job.kind in TRAINING else 1.0


def _trials(ours: Sequence[Job], jobs: Sequence[Job]) -> int:
    """For how many trials the jobs are: those that need one of them, however deep."""
    by_id, wanted = {job.id: job for job in jobs}, {job.id for job in ours}

    def needs(job: Job) -> bool:
        return job.id in wanted or any(needs(by_id[need]) for need in job.needs)

    return sum(needs(job) for job in jobs if job.kind == "trial")


def _seconds(root: Path | None, job: Job) -> float:
    assert root is not None
    if job.kind == "trial":
        record = read_record(root / job.id)
        return record.timings.get("seconds", math.nan) if record else math.nan
    return float(json.loads((root / job.id / DONE_FILE).read_text(encoding="utf-8"))["seconds"])
