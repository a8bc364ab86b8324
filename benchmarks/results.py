"""Reading a large study back: 10,000 records as one pandas frame.

python benchmarks/results.py [records]
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from shared.verdict import report

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.runs import curves, load
from qat.lab.runs.record import Arm, Lineage, Record, write_record
from qat.lab.runs.study_folder import open_study
from qat.lab.sweep.study import Study, Trial
from qat.tasks.classification import METRICS
from qat.train import TrainConfig

RECIPES = [f"w{weights}a{activations}" for weights in (2, 3, 4, 6, 8) for activations in (4, 8)]
ARMS: tuple[Arm, ...] = ("ptq", "qat")
SEEDS = 5


def main() -> None:
    """Write a study with as many finished trials, and print the seconds that `qat.lab.runs.load` takes."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "runs"
        started = time.perf_counter()
        write(root, count)
        written = time.perf_counter()
        frame = load(root)
        loaded = time.perf_counter()
        lines = curves(root)
        seconds = loaded - written
        assert len(frame) == count and frame.attrs["finished"] == count and not frame.attrs["damaged"]
        report(
            f"{count:,} records, {len(frame.columns)} columns (written in {written - started:.0f} s)",
            [
                ("`qat.lab.runs.load`, s", seconds, 10.0),
                ("milliseconds a record", 1e3 * seconds / count, None),
                (f"`qat.lab.runs.curves`, {len(lines):,} rows, s", time.perf_counter() - loaded, None),
            ],
        )


def write(root: Path, count: int) -> None:
    """A study whose `count` trials differ in recipe, arm, rate and seed, each with the files that a run leaves."""
    trials = [trial_of(i) for i in range(count)]
    folder = open_study(root, Study("large", tuple(trials)))
    for i, trial in enumerate(trials):
        place = folder.trial(trial.id)
        place.mkdir(parents=True)
        (place / "config.json").write_text(trial.config.model_dump_json(indent=2))
        (place / "manifest.json").write_text(json.dumps({"versions": {"qat": "0"}, "seed": trial.config.seed}))
        (place / "metrics.jsonl").write_text("".join(f"{json.dumps(line(step))}\n" for step in range(0, 200, 10)))
        write_record(place, record_of(trial, i))


def trial_of(i: int) -> Trial:
    """One of ever more combinations."""
    rest, seed = divmod(i, SEEDS)
    rest, number = divmod(rest, 2 * len(RECIPES))
    recipe, arm = RECIPES[number // 2], ARMS[number % 2]
    rate = 1e-3 / (1 + rest)
    config = ExperimentConfig(
        name="large",
        model="cnn(width=16)",
        data="digits(held_out=0.25)",
        arm=arm,
        recipe=recipe,
        seed=seed,
        train=TrainConfig(steps=400, learning_rate=rate),
        finetune=TrainConfig(steps=200, learning_rate=rate / 10),
    )
    labels = {"arm": f"{arm} {recipe}", "rate": f"learning_rate {rate:.3g}", "seed": f"seed {seed}"}
    return Trial(labels, config)


def record_of(trial: Trial, i: int) -> Record:
    """What the trial came to."""
    assert trial.config.recipe is not None
    key = f"{i:012x}"
    return Record(
        trial=trial.id,
        key=key,
        labels=trial.labels,
        arm=trial.config.arm,
        recipe=trial.config.recipe_name,
        seed=trial.config.seed,
        lineage=Lineage(float_stage=key, control=key, group=f"{i // SEEDS:012x}"),
        stages={"float": key, "calibration": key},
        task_metrics=METRICS,
        metrics={"accuracy": 0.9 + i % 97 / 1000, "cross_entropy": 0.1 + i % 89 / 1000},
        examples=450,
        size_bytes=18_240,
        timings={"seconds": 0.3, "latency_ms": 1.5, "float_latency_ms": 3.1, "latency_batch": 8},
    )


def line(step: int) -> dict[str, float | str]:
    """A line of `metrics.jsonl`."""
    return {"stage": "float", "step": step, "loss": 1 / (1 + step), "accuracy": 0.9, "learning_rate": 1e-3}


if __name__ == "__main__":
    main()
