"""The time that a study's open jobs will take on this machine, from times that were measured: a range and its basis."""

import functools
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from qat.core.jaxpr import find, trace
from qat.core.plan import macs
from qat.lab.experiment import run_experiment
from qat.lab.experiment.config import ExperimentConfig, lineage, override, parse
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import Workload, workload_of
from qat.lab.jobs.job import Job
from qat.lab.runs.finished import seconds_of
from qat.lab.runs.study_folder import TRIALS
from qat.lab.sweep.run import finished

JOB_SECONDS = (0.05, 1.0)  # of a job beside its steps
UNKNOWN = "nothing yet: --measure times a few steps"

type Probe = Callable[[Sequence[Job]], dict[str, "Measured"]]


@dataclass(frozen=True)
class Measured:
    """Seconds of a kind of job: once, to compile and start, and of each training step."""

    start: float
    step: float


@dataclass(frozen=True)
class Cost:
    """The jobs of one kind: how many, of which so many are finished, and for how many trials; the `seconds` that the
    open ones will take one after another, at least and at most, None where nothing was measured; what that rests on."""

    kind: str
    jobs: int
    finished: int
    trials: int
    seconds: tuple[float, float] | None
    basis: str


def estimate(jobs: Sequence[Job], root: Path | None, probe: Probe | None = None) -> list[Cost]:
    """The cost of every kind of job in `jobs`.

    It rests on finished jobs of the same kind in `root`; else, with `probe` (see `measure`), on a few steps that
    are run now. Without either it is not known.
    """
    done = {job.id: seconds_of(root / job.id) for job in jobs if root is not None and finished(root, job)}
    missing = [job for job in jobs if not any(other.kind == job.kind and other.id in done for other in jobs)]
    measured = probe(missing) if probe and missing else {}
    return [_cost(kind, jobs, done, measured) for kind in dict.fromkeys(job.kind for job in jobs)]


def _cost(kind: str, jobs: Sequence[Job], done: dict[str, float], measured: dict[str, Measured]) -> Cost:
    ours = [job for job in jobs if job.kind == kind]
    left = [job for job in ours if job.id not in done]
    known = [(job, done[job.id]) for job in ours if math.isfinite(done.get(job.id, math.nan))]
    seconds, basis = None, UNKNOWN
    if not left:
        seconds, basis = (0.0, 0.0), "nothing is left to do"
    elif known:
        seconds, basis = _like_finished(left, known), f"{len(known)} finished here"
    elif kind in measured:
        seconds, basis = _like_measured(left, measured[kind]), "a few steps, run now"
    return Cost(kind, len(ours), len(ours) - len(left), _trials(ours, jobs), seconds, basis)


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


def _units(job: Job) -> float:
    """The quantity that the time of a job of one kind grows with: products of a training, else the jobs themselves."""
    config = config_of(job)
    stage = config.train if job.kind == "float" else config.finetune
    if job.kind not in TRAINING or stage is None:
        return 1.0
    return float(stage.steps * stage.batch_size * forward_macs(config.model, config.data))


def _trials(ours: Sequence[Job], jobs: Sequence[Job]) -> int:
    """Count the trials that need one of the jobs, however deep."""
    by_id, wanted = {job.id: job for job in jobs}, {job.id for job in ours}

    def needs(job: Job) -> bool:
        return job.id in wanted or any(needs(by_id[need]) for need in job.needs)

    return sum(needs(job) for job in jobs if job.kind == "trial")


TRAINING = ("float", "control", "qat")
QUANTIZING = ("calibration", "qat", "trial")


def config_of(job: Job) -> ExperimentConfig:
    """The config that a job is for."""
    return _parsed(json.dumps(job.payload["config"], sort_keys=True))


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> ExperimentConfig:
    return parse(ExperimentConfig, json.loads(text))


def steps_of(job: Job) -> int:
    """Steps of a training, 0 of any other job."""
    config = config_of(job)
    stage = config.train if job.kind == "float" else config.finetune
    return stage.steps if job.kind in TRAINING and stage is not None else 0


@functools.lru_cache
def forward_macs(model: str, name: str) -> int:
    """Multiply-accumulates of a registered model's forward pass on one example of a data set."""
    workload = workload_of(model, name)
    inputs = workload.example()
    variables = workload.abstract_variables()
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    jaxpr, _ = trace(workload.functions.inference, (variables, *inputs))
    return max(1, sum(macs(site) * site.trip_count for site in find(jaxpr, leaves)))


def _workload(config: ExperimentConfig) -> Workload:
    return workload_of(config.model, config.data, fold_norms=config.fold_norms)


def programs_of(left: Sequence[Job]) -> int:
    """The number of programs that jobs of one kind run: recipes that differ in bits share one."""
    found = set()
    for job in left:
        config = config_of(job)
        program = None
        if job.kind in QUANTIZING and config.rules is not None:
            program = quantized(_workload(config), config.rules).inference.program
        found.add((config.model, config.data, config.train.batch_size, program))
    return len(found)


STEPS = 12
SHORT = {"steps": STEPS, "warmup_steps": 0, "log_every": 1, "checkpoint_every": STEPS}


def measure(jobs: Sequence[Job]) -> dict[str, Measured]:
    """Measure the cost at most of one job, by kind of `jobs`: a trial of each arm is run, with trainings of a dozen
    steps.
    """
    found: dict[str, Measured] = {}
    arms = {job.payload["config"]["arm"]: job.payload["config"] for job in jobs}
    for config in arms.values():
        for kind, one in _run(parse(ExperimentConfig, config)).items():
            found[kind] = max(one, found.get(kind, one), key=lambda measured: measured.start)
    return found


def _shortened(config: ExperimentConfig) -> ExperimentConfig:
    """Shorten a config to a dozen steps; where batch normalization is frozen, the freeze comes in the middle, as it is
    another program.
    """
    changes = {}
    for stage, settings in (("train", config.train), ("finetune", config.finetune)):
        if settings is not None:
            freeze = None if settings.freeze_bn_step is None else STEPS // 2
            short = {**SHORT, "freeze_bn_step": freeze}
            changes |= {f"{stage}.{name}": value for name, value in short.items()}
    return override(config, changes)


def _run(config: ExperimentConfig) -> dict[str, Measured]:
    """Run a trial and measure the time of each stage, and of a training's steps apart."""
    config = _shortened(config)
    moments: dict[str, list[float]] = {}
    started: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="qat-probe-") as name:
        root = Path(name)
        about = {"trial": "probe", "labels": {}, "lineage": lineage(config)}

        def report(kind: str, done: int, steps: int, loss: float | None) -> None:
            started.setdefault(kind, time.monotonic())

        def watch(kind: str, step: int, values: dict[str, float]) -> None:
            moments.setdefault(kind, []).append(time.monotonic())

        record = run_experiment(config, root, root / TRIALS / "probe", about, report, watch)
        ended = time.monotonic()
    found = {kind: _training(started[kind], moments[kind]) for kind in TRAINING if kind in moments}
    if "calibration" in started:
        after = started.get("qat", ended - record.timings["seconds"])
        found["calibration"] = Measured(after - started["calibration"], 0.0)
    return {**found, "trial": Measured(record.timings["seconds"], 0.0)}


def _training(started: float, moments: Sequence[float]) -> Measured:
    steps = [after - before for before, after in itertools.pairwise(moments)]
    step = statistics.median(steps)
    return Measured(moments[0] - started + max(steps) - step, step)
