"""`qat guard` and `qat allocate` end to end on digits: few validations, a limit that holds, a config that runs."""

import json
import math
import re

import pytest
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.sweep.study import load_any, load_one
from qat.recipes.recipe import QuantRecipe

CONFIG = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig


def get_config():
    return ExperimentConfig(
        name="tiny", model="cnn(width=8)", data={data!r}, arm={arm!r}, recipe={recipe!r}, analysis_batches=0,
        train=TrainConfig(steps=150, batch_size=64, learning_rate=3e-3, warmup_steps=15), calibration_batches=2,
        finetune=TrainConfig(steps=2, batch_size=64),
    )
"""
FEW = "w2a4(observer='minmax')"
NO_VALIDATION = """
import dataclasses
from qat import data
from qat.data.digits import digits


@data.register
def digits_never_validated():
    whole = digits()
    splits = {name: part for name, part in whole.splits.items() if name != "validation"}
    return dataclasses.replace(whole, splits=splits)
"""


def qat(*arguments):
    """Exit code, stdout and stderr of the command, in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def written(folder, data="digits", arm="ptq", recipe=FEW, more=""):
    path = folder / "tiny.py"
    path.write_text(more + CONFIG.format(data=data, arm=arm, recipe=recipe))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A config and its run folder, shared: the float model is trained once."""
    folder = tmp_path_factory.mktemp("bits")
    return written(folder), folder / "runs"


def test_a_guard_holds_its_limit_in_few_validations_and_leaves_a_config(place):
    config, runs = place
    code, out, _ = qat("guard", config, "--max-drop", 3, "--runs", runs)
    assert code == 0
    count = int(next(line for line in out.splitlines() if "full validations" in line).split()[0])
    assert 2 <= count <= math.log2(4) + 2
    assert "test split: drop" in out and "bytes: float" in out and "ms of a call" in out
    study = load_any(runs / "guarded.json", {})
    found = study.trials[0].config
    assert found.arm == "ptq" and isinstance(found.recipe, QuantRecipe) and study.imports == (str(config),)
    assert load_one(runs / "guarded.json", {"seed": 3}).trials[0].config.seed == 3
    code, out, _ = qat("run", runs / "guarded.json", "--runs", runs.parent / "again")
    assert code == 0


def test_a_limit_that_cannot_be_shown_ends_with_status_1_or_with_the_float_model(place):
    config, runs = place
    # Even equal answers leave a doubt of over half a point on 270 examples, and 8 bits are returned to, not float.
    arguments = ("guard", config, "--max-drop", 0.2, "--runs", runs)
    code, out, _ = qat(*arguments)
    if code == 0:  # every layer gained clearly more by float, so that all of them went there
        assert "float" in out
        return
    assert code == 1 and "cannot be shown" in out and "--fallback float" in out
    code, out, _ = qat(*arguments, "--fallback", "float", "--out", runs / "kept.json")
    assert code == 0 and "The float model is kept" in out
    assert json.loads((runs / "kept.json").read_text())["config"]["arm"] == "float"


def test_an_allocation_tells_its_front_and_leaves_a_config(place):
    config, runs = place
    code, out, _ = qat("allocate", config, "--budget", "size(bits=4)", "--runs", runs)
    assert code == 0
    assert "bits within" in out and "chosen" in out
    found = load_one(runs / "allocated.json", {}).trials[0].config
    assert isinstance(found.recipe, QuantRecipe) and found.allocation is None


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (
            "guard",
            {"data": "digits_never_validated", "more": NO_VALIDATION},
            "examples in the split 'validation'",
        ),
        ("guard", {"arm": "float", "recipe": None}, "`arm` of .* must be 'ptq' or 'qat'"),
        ("allocate", {}, "the smallest possible is"),
    ],
)
def test_what_cannot_be_is_one_clear_error_before_any_work(tmp_path, command, options, message):
    config, runs = written(tmp_path, **options), tmp_path / "runs"
    more = ("--max-drop", 1) if command == "guard" else ("--budget", "size(limit=10)")
    code, _, err = qat(command, config, *more, "--runs", runs)
    assert code == 2 and not (runs / "stages").exists()
    assert re.search(message, err.replace("\n", " "))


def test_json_that_is_no_config_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="must be JSON with `imports`"):
        load_any(path, {})
