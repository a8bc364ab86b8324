"""A study end to end, on real data: every file that a trial leaves, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from programs import environment, kept
from rich.console import Console
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.experiment.config import ExperimentConfig
from qat.lab.report import summarize
from qat.lab.runs.record import read_record
from qat.lab.runs.study_folder import read_study
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import load_study

ROOT = Path(__file__).parents[3]
TINY = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="tiny",
    model="cnn(width=4)",
    data="digits",
    train=TrainConfig(steps=12, batch_size=32, checkpoint_every=4),
    finetune=TrainConfig(steps=8, batch_size=32, checkpoint_every=2, freeze_bn_step=4),
    calibration_batches=2,
    latency_batch_size=2,
    more_splits=("validation",),
)
AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        "ptq": {"arm": "ptq", "recipe": "w8a8"},
        "qat": {"arm": "qat", "recipe": "w4a4", "sensitive_share": 0.5, "distillation": 0.5},
    },
    "seed": [0, 1],
}
"""


def command(study, runs):
    """What a user types after `qat`."""
    return ["sweep", str(study), "--runs", str(runs)]


def process(study, runs):
    """That command in a process of its own, which reads what the uninterrupted run compiled."""
    variables = {**os.environ, **environment(study.parent / "programs"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "qat", *command(study, runs)]
    return subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def outcome(runs):
    """Records by trial without their times."""
    return {
        trial_id: record.model_copy(update={"timings": {}})
        for trial_id, record in read_study(runs).scan().records.items()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A study file, and the folder of its uninterrupted run."""
    folder = tmp_path_factory.mktemp("tiny")
    study = folder / "tiny.py"
    study.write_text(TINY)
    with kept(folder / "programs"):
        run_study(load_study(study, {}), folder / "whole", console=Console(quiet=True))
    return study, folder / "whole"


def test_every_trial_leaves_its_config_manifest_model_and_record(tiny):
    study, runs = tiny
    for trial in load_study(study, {}).trials:
        folder = runs / "trials" / trial.id
        record = read_record(folder)
        assert record is not None
        assert ExperimentConfig.model_validate_json((folder / "config.json").read_text()) == trial.config
        assert json.loads((folder / "manifest.json").read_text())["seed"] == trial.config.seed
        assert record.size_bytes == (folder / "model.safetensors").stat().st_size
        assert 0 <= record.metrics["accuracy"] <= 1
        assert 0 <= record.metrics["validation/accuracy"] <= 1
    kinds = sorted(path.name.split("-")[0] for path in (runs / "stages").iterdir())
    assert kinds == [
        kind for kind in ("calibration", "control", "float", "qat") for _ in range(4 if kind == "calibration" else 2)
    ]


def test_trials_that_compile_the_same_are_of_one_program_and_have_one_time(tiny):
    records = outcome(tiny[1]).values()
    programs = {record.arm: {one.program for one in records if one.arm == record.arm} for record in records}
    assert all(len(found) == 1 for found in programs.values())
    assert programs["float"] == programs["control"] != programs["ptq"] == programs["qat"]
    rows = {row.arm: row for row in summarize(read_study(tiny[1]).scan().records.values())}
    ptq, qat = rows["ptq"].speed, rows["qat"].speed
    assert ptq == qat and ptq is not None and ptq.trials == 4
    assert ptq.low is not None and ptq.faster is not None and ptq.high is not None
    assert 0 < ptq.low <= ptq.faster <= ptq.high and ptq.latency_ms > 0


def test_quantized_models_are_smaller_on_disk_and_the_control_is_another_model(tiny):
    rows = {row.arm: row for row in summarize(outcome(tiny[1]).values())}
    assert rows["float"].size_bytes == rows["control"].size_bytes
    assert rows["qat"].size_bytes < rows["ptq"].size_bytes < rows["float"].size_bytes
    assert rows["control"].drop_from_float is not None
    assert rows["control"].drop_from_float.mean != 0


def test_the_record_says_which_layers_calibration_gave_more_bits(tiny):
    _, runs = tiny
    for record in outcome(runs).values():
        raised = runs / "stages" / f"calibration-{record.stages.get('calibration')}" / "raised.json"
        assert sum(record.operations.values()) == pytest.approx(1 if record.recipe else 0)
        assert (f"% {next(iter(record.operations), '')}" in record.provenance) == (record.recipe is not None)
        assert list(record.high_bit_layers) == (json.loads(raised.read_text()) if raised.exists() else [])
        assert raised.exists() == (record.recipe is not None)


def test_a_sweep_killed_in_the_middle_ends_as_if_it_had_not_been(tiny, tmp_path):
    study, whole = tiny
    running = process(study, tmp_path)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("trials/*/record.json"))) < 3 and running.poll() is None:
        assert time.monotonic() < deadline, "three trials took more than four minutes"
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    finished = outcome(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/record.json")}
    assert 3 <= len(finished) < 8
    again = CliRunner().invoke(app, command(study, tmp_path))
    assert f"{len(finished)} of 8 trials are finished already" in again.stderr
    assert "accuracy, %" in again.stdout
    assert outcome(tmp_path) == outcome(whole)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
