"""A few steps of what a study would do, run and timed: what an estimate of its cost may rest on."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from qat.config import ExperimentConfig, lineage, override, parse
from qat.pipeline import run_experiment
from qat.sweep.cost import Measured
from qat.sweep.counting import TRAINING
from qat.sweep.folder import TRIALS
from qat.sweep.job import Job

STEPS = 12
SHORT = {"steps": STEPS, "warmup_steps": 0, "log_every": 1, "checkpoint_every": STEPS}


def measure(jobs: Sequence[Job]) -> dict[str, Measured]:
    """By kind of `jobs` what one costs, at most: a trial of each arm is run, with trainings of a dozen steps."""
    found: dict[str, Measured] = {}
    arms = {job.payload["config"]["arm"]: job.payload["config"] for job in jobs}
    for config in arms.values():
        for kind, one in _run(parse(ExperimentConfig, config)).items():
            found[kind] = max(one, found.get(kind, one), key=lambda measured: measured.start)
    return found


def _shortened(config: ExperimentConfig) -> ExperimentConfig:
    """The same with a dozen steps; where batch normalization is frozen, from the middle on: that is another program."""
    changes = {}
    for stage, settings in (("train", config.train), ("finetune", config.finetune)):
        if settings is not None:
            freeze = None if settings.freeze_bn_step is None else STEPS // 2
            short = {**SHORT, "freeze_bn_step": freeze}
            changes |= {f"{stage}.{name}": value for name, value in short.items()}
    return override(config, changes)


def _run(config: ExperimentConfig) -> dict[str, Measured]:
    """What each stage of a trial took; of a training apart from its steps."""
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
