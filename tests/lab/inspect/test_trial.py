"""A finished trial loaded into Python is the model that was measured."""

import json
import shutil

import jax
import numpy as np
import pytest
from jobs import TINY, run_all
from run_folders import make_runs

import qat
from qat.lab.experiment.config import override
from qat.lab.inspect.trial import Trial
from qat.lab.runs.examples import load_examples
from qat.lab.sweep.study import make_study
from qat.recipes.data import recipe_from_data
from qat.train import per_example

RECIPE = "w2a2(edges='same', observer='minmax', quantizer='lsq')"  # coarse enough for a layer to gain from 8 bits
BASE = override(TINY, {"analysis_batches": 0, "latency_batch_size": None})
ARMS = {
    "float": {"arm": "float"},
    "ptq": {"arm": "ptq", "recipe": RECIPE, "sensitive_share": 0.5},
    "qat": {"arm": "qat", "recipe": RECIPE, "sensitive_share": 0.5},
    "allocated": {"arm": "qat", "recipe": "w4a4(observer='minmax')", "allocation": "size(bits=5)"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folders of finished trials by arm, to be left as they are."""
    root = tmp_path_factory.mktemp("runs")
    study = make_study("s", BASE, {"arm": ARMS})
    run_all(study, root)
    return {trial.labels["arm"]: root / "trials" / trial.id for trial in study.trials}


@pytest.fixture(params=["float", "ptq", "qat", "allocated"])
def folder(request, folders):
    return folders[request.param]


def test_outputs_of_a_loaded_trial_give_its_record_and_its_examples(folder):
    t = qat.lab.load_trial(folder)
    task = qat.tasks.build(t.dataset.task)

    def examples(model, batch):
        inputs = task.inputs(batch)
        outputs = t.functions.inference(model, *inputs) if t.quantized is None else t.quantized.serve(model, *inputs)
        return task.examples(outputs, batch)

    batches = qat.data.in_order(t.dataset.splits["test"], t.config.evaluation_batch_size)
    found = per_example(examples, t.variables if t.converted is None else t.converted, batches)
    recorded = load_examples(folder)
    for name in ("accuracy", "cross_entropy", "prediction"):
        np.testing.assert_array_equal(found[name], recorded[name])
    assert task.summary(found) == t.record.metrics


@pytest.mark.parametrize("arm", ["ptq", "qat"])
def test_a_loaded_state_and_its_variables_convert_to_the_loaded_model(folders, arm):
    t = qat.lab.load_trial(folders[arm])
    assert t.record.high_bit_layers and t.state.learned
    x = t.dataset.splits["train"][0]["image"][None]
    again = t.quantized.convert(t.variables, t.state, x)
    assert jax.tree.structure(again) == jax.tree.structure(t.converted)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(t.converted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_bits_chosen_within_a_budget_are_recorded_and_those_of_the_loaded_model(folders):
    t = qat.lab.load_trial(folders["allocated"])
    found = t.record.allocation
    assert found["chosen"]["cost"] <= found["limit"] and found["unit"] == "bytes" and found["front"]
    assert t.quantized.recipe == recipe_from_data(found["recipe"])
    x = t.dataset.splits["train"][0]["image"][None]
    bits = {name: f"w{s.weight_bits}a{s.activation_bits}" for s in t.quantized.sites(t.variables, x)
            for name in (s.path,) if s.rule}  # fmt: skip
    assert bits == {name: one for name, one in found["chosen"]["bits"].items() if one != "float"}
    assert sum(t.record.operations.values()) == pytest.approx(1)
    assert f"within {found['limit']:,.6g} bytes" in t.record.provenance


def test_a_float_trial_has_no_quantized_parts(folders):
    t = qat.lab.load_trial(str(folders["float"]))
    assert isinstance(t, Trial)
    assert (t.quantized, t.state, t.converted) == (None, None, None)
    assert (t.name, t.config.arm) == ("float", "float")
    assert {"params", "batch_stats"} == set(t.variables)


def test_a_trial_alone_is_served_without_its_data_and_its_study(folders, tmp_path, monkeypatch):
    def gone(name):
        raise ValueError(f"{name} is elsewhere")

    t = qat.lab.load_trial(shutil.copytree(folders["qat"], tmp_path / "alone"))
    monkeypatch.setattr("qat.data.load", gone)
    x = np.zeros((1, *t.signature.input_shape), np.float32)
    assert t.quantized.serve(t.converted, x).shape == (1, t.signature.classes)
    with pytest.raises(ValueError, match="digits is elsewhere"):
        t.dataset  # noqa: B018
    for part in ("state", "variables"):
        with pytest.raises(ValueError, match="Copy the stages of its study too; `converted` is served without them"):
            getattr(t, part)


def test_reading_a_damaged_stage_changes_nothing(folders, tmp_path):
    runs = shutil.copytree(folders["ptq"].parent.parent, tmp_path / "runs")
    key = qat.lab.load_trial(folders["ptq"]).record.stages["calibration"]
    stage = runs / "stages" / f"calibration-{key}"
    (stage / "artifact.safetensors").write_bytes(b"none")
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    with pytest.raises(ValueError, match=r"artifact\.safetensors' is damaged"):
        qat.lab.load_trial(runs / "trials" / folders["ptq"].name).state  # noqa: B018
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_what_is_no_whole_finished_trial_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"is a whole study. Name the folder of one of its trials:\n.*trials/"):
        qat.lab.load_trial(folder.parent.parent)
    with pytest.raises(ValueError, match="holds no finished trial"):
        qat.lab.load_trial(tmp_path)
    for name in ("model.safetensors", "config.json", "signature.json"):
        copy = shutil.copytree(folder, tmp_path / name)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with pytest.raises(ValueError, match=f"{name}' is damaged .*Run the sweep again"):
            qat.lab.load_trial(copy)
        (copy / name).write_bytes(content)
        (copy / "model.safetensors").unlink()
        with pytest.raises(ValueError, match=r"model\.safetensors' is missing. Run the sweep again"):
            qat.lab.load_trial(copy)


def test_a_part_that_the_recipe_alone_names_is_registered_by_the_study_s_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    make_runs(runs, 3, seeds=1)
    study = json.loads((runs / "study.json").read_text())
    (runs / "study.json").write_text(json.dumps({**study, "imports": [str(runs / "theirs.py")]}))
    trial = runs / "trials" / study["trials"][0]["id"]
    config = BASE.model_copy(update={"arm": "ptq", "recipe": "w8a8(observer='theirs')"})
    (trial / "config.json").write_text(config.model_dump_json())
    signature = {"task": "classification", "classes": 10, "input_shape": [28, 28, 1]}
    (trial / "signature.json").write_text(json.dumps(signature))
    with pytest.raises(ValueError, match=r"theirs\.py', whose code would run now"):
        qat.lab.load_trial(trial)
