"""`qat check-target`: a config's model, or a trial's, held against a target."""

import pytest
from jobs import TINY, run_all
from typer.testing import CliRunner

from qat.lab.cli.app import app
from qat.lab.experiment.config import override
from qat.lab.search.bits import write_config_file
from qat.lab.sweep.on_target import check_file_or_trial
from qat.lab.sweep.study import make_study

PTQ = override(TINY, {"arm": "ptq", "recipe": "w8a8", "analysis_batches": 0, "latency_batch_size": None})


@pytest.fixture
def file(tmp_path):
    write_config_file(tmp_path / "config.json", PTQ, ())
    return str(tmp_path / "config.json")


def test_a_config_is_checked_before_any_training(file):
    found, folded = (check_file_or_trial(file, "ort-cpu", {}, fold=fold) for fold in (False, True))
    assert found.satisfied and folded.share > found.share
    assert "fold it" in repr(found) and "fold it" not in repr(folded)


def test_the_command_fails_where_the_recipe_does_not_suit_and_names_one_that_does(file):
    done = CliRunner().invoke(app, ["check-target", file, "--target", "tensorrt"])
    assert done.exit_code == 1 and "grid='symmetric'" in done.output
    suits = ["check-target", file, "--target", "tensorrt", "--set", "recipe=w8a8(adds=True, grid='symmetric')"]
    assert CliRunner().invoke(app, suits).exit_code == 0


@pytest.mark.parametrize(
    ("target", "changes", "said"),
    [
        ("ort", {}, r"Unknown target 'ort'\. Known: edgetpu"),
        ("ort-cpu", {"arm": "float", "recipe": None}, "is in float: there is nothing to check"),
    ],
)
def test_what_cannot_be_checked_is_told(file, target, changes, said):
    with pytest.raises(ValueError, match=said):
        check_file_or_trial(file, target, changes)


def test_a_folder_without_a_trial_is_told(tmp_path):
    with pytest.raises(ValueError, match="holds no finished trial"):
        check_file_or_trial(str(tmp_path), "ort-cpu", {})
    with pytest.raises(ValueError, match="`--set` changes the config of a file"):
        check_file_or_trial(str(tmp_path), "ort-cpu", {"seed": 1})


@pytest.mark.slow
def test_a_trial_is_checked_as_its_config_is(file, tmp_path):
    study = make_study("s", PTQ, {})
    run_all(study, tmp_path / "runs")
    trial = check_file_or_trial(str(tmp_path / "runs" / "trials" / study.trials[0].id), "ort-cpu", {})
    assert trial == check_file_or_trial(file, "ort-cpu", {})
