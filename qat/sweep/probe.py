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
from qat.sweep.job import Job

STEPS = 12


def measure(jobs: Sequence[Job]) -> dict[str, Measured]:
    """By kind of `jobs`, what its first costs: a trial that needs it is run, with trainings of a dozen steps."""
    found: dict[str, Measured] = {}
    for job in jobs:
        if job.kind not in found:
            found = {**_run(parse(ExperimentConfig, job.payload["config"])), **found}
    return found


def _run(config: ExperimentConfig) -> dict[str, Measured]:
    """What each stage of a trial took; of a training apart from its steps."""
    short = {"steps": STEPS, "warmup_steps": 0, "log_every": 1, "checkpoint_every": STEPS}
    stages = ["train", *(["finetune"] if config.finetune else [])]
    config = override(config, {f"{stage}.{name}": value for stage in stages for name, value in short.items()})
    moments: dict[str, list[float]] = {}
    started: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="qat-probe-") as name:
        root = Path(name)
        about = {"trial": "probe", "labels": {}, "lineage": lineage(config)}

        def report(kind: str, done: int, steps: int, loss: float | None) -> None:
            started.setdefault(kind, time.monotonic())

        def watch(kind: str, step: int, values: dict[str, float]) -> None:
            moments.setdefault(kind, []).append(time.monotonic())

        record = run_experiment(config, root, root / "trials" / "probe", about, report, watch)
        ended = time.monotonic()
    found = {kind: _training(started[kind], moments[kind]) for kind in TRAINING if kind in moments}
    if "calibration" in started:
        after = started.get("qat", ended - record.timings["seconds"])
        found["calibration"] = Measured(after - started["calibration"], 0.0)
    return {**found, "trial": Measured(record.timings["seconds"], 0.0)}


def _training(started: float, moments: Sequence[float]) -> Measured:
    steps = [after - before for before, after in itertools.pairwise(moments)]
    return Measured(moments[0] - started, statistics.median(steps))
