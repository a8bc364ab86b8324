"""A study end to end, on real data: every file that a trial leaves, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from qat.config import ExperimentConfig
from qat.record import read_record
from qat.report import summarize
from qat.sweep.folder import read_study
from qat.sweep.run import run_study
from qat.sweep.study import load_study

ROOT = Path(__file__).parent.parent
TINY = """
from qat.config import ExperimentConfig
from qat.train import TrainConfig

BASE = ExperimentConfig(
    name="tiny",
    model="cnn(width=4)",
    data="digits",
    train=TrainConfig(steps=12, batch_size=32, checkpoint_every=4),
    finetune=TrainConfig(steps=8, batch_size=32, checkpoint_every=2, freeze_bn_step=4),
    calibration_batches=2,
)
AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        "ptq": {"arm": "ptq", "recipe": "w8a8"},
        "qat": {"arm": "qat", "recipe": "w4a4", "sensitive_share": 0.5},
    },
    "seed": [0, 1],
}
"""


def sweep(study, runs):
    """The command of a user, as a process of its own; what one compiled the next one reads."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(study.parent / "cache")}
    environment = {**os.environ, **cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "qat.cli", "sweep", str(study), "--runs", str(runs)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    kinds = sorted(path.name.split("-")[0] for path in (runs / "stages").iterdir())
    assert kinds == [
        kind for kind in ("calibration", "control", "float", "qat") for _ in range(4 if kind == "calibration" else 2)
    ]


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
        assert list(record.raised) == (json.loads(raised.read_text()) if raised.exists() else [])
        assert raised.exists() == (record.recipe is not None)


def test_a_sweep_killed_in_the_middle_ends_as_if_it_had_not_been(tiny, tmp_path):
    study, whole = tiny
    process = sweep(study, tmp_path)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("trials/*/record.json"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline, "three trials took more than four minutes"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = outcome(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/record.json")}
    assert 3 <= len(kept) < 8
    out, err = sweep(study, tmp_path).communicate(timeout=240)
    assert f"{len(kept)} of 8 trials are finished already" in err
    assert "accuracy, %" in out
    assert outcome(tmp_path) == outcome(whole)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
