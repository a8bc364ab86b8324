"""Studies of a user's own model, data, task and metric run from their file to the report: a language model, and a
regression with two inputs."""

import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ownparts import forgotten
from typer.testing import CliRunner

import qat
from qat.lab.cli import app
from qat.lab.inspect.trial import load_trial
from qat.lab.runs import load
from qat.lab.runs.examples import load_examples
from qat.train import per_example

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
STUDIES = {
    "language_model": ("perplexity", "small_lm(width=16, layers=1)"),
    "two_inputs": ("rmse", "two_towers(width=8)"),
}
STUDY = """
import {name} as own
from qat.lab.experiment.config import override

BASE = override(own.BASE, {changes})
ARMS = ("float", "control", "ptq w8a8", "qat w8a8")
AXES = {{"arm": {{arm: own.AXES["arm"][arm] for arm in ARMS}}, "seed": [0]}}
"""
SHORT = {
    "train.steps": 8,
    "train.warmup_steps": 2,
    "finetune.steps": 4,
    "finetune.warmup_steps": 0,
    "calibration_batches": 2,
    "latency_batch_size": 2,
}


@pytest.fixture(scope="module", params=STUDIES)
def swept(request, tmp_path_factory):
    """The study's name and the root of its runs: every arm, for some steps of a narrow model."""
    folder, name = tmp_path_factory.mktemp("mine"), request.param
    changes = {**SHORT, "model": STUDIES[name][1]}
    changes |= {"finetune.freeze_bn_step": 2} if name == "two_inputs" else {}
    shutil.copy(EXPERIMENTS / f"{name}.py", folder)
    (folder / "study.py").write_text(STUDY.format(name=name, changes=changes))
    with forgotten():
        done = CliRunner().invoke(app, ["sweep", str(folder / "study.py"), "--runs", str(folder / "runs")])
        assert done.exit_code == 0, done.output
        yield name, folder / "runs"


@pytest.mark.slow
def test_every_arm_is_measured_by_the_own_metric_and_reported(swept):
    name, root = swept
    metric = STUDIES[name][0]
    trials = load(root)
    assert sorted(trials["arm"]) == ["control", "float", "ptq", "qat"]
    values = trials[f"metric.{metric}"].to_numpy()
    assert np.isfinite(values).all() and values.min() > 0
    assert f"Lower is better of {metric}" in (root / "report" / "table.md").read_text().replace("\n", " ")
    assert (root / "report" / "index.html").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["float", "control", "ptq", "qat"])
def test_a_loaded_trial_gives_its_record_again(swept, arm):
    root = swept[1]
    folder = next(path for path in sorted(root.glob("trials/*")) if load_trial(path).config.arm == arm)
    t = load_trial(folder)
    task = qat.tasks.build(t.dataset.task)
    model = t.variables if t.converted is None else t.converted

    def outputs(model, batch):
        run = t.functions.inference if t.quantized is None else t.quantized.serve
        return run(model, *task.arguments(batch))

    batches = qat.data.in_order(t.dataset.splits["test"], t.config.evaluation_batch_size)
    found = per_example(lambda model, batch: task.examples(outputs(model, batch), batch), model, batches)
    recorded = load_examples(folder)
    for key, values in found.items():
        np.testing.assert_array_equal(values, recorded[key])
    assert task.summary(found) == t.record.metrics
    assert math.isfinite(t.record.timings["latency_ms"])
    if t.quantized is not None and t.state is not None and t.converted is not None:
        batch = next(iter(qat.data.in_order(t.dataset.splits["test"], 3)))
        simulated = t.quantized.simulate(t.variables, t.state, *task.arguments(batch))
        served = t.quantized.serve(t.converted, *task.arguments(batch))
        assert jax.tree.all(jax.tree.map(np.array_equal, served, simulated))


@pytest.mark.slow
def test_the_sizes_that_the_data_told_are_kept_with_the_trial(swept):
    name, root = swept
    offers = {"language_model": {"vocabulary": 12}, "two_inputs": {"body": 4, "blood": 6}}
    t = load_trial(next(root.glob("trials/*")))
    assert t.signature.offers == offers[name]
    assert t.signature.classes == 0
