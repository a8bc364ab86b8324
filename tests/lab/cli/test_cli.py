"""The command line: quick help, one clear error, exit code 2, no traceback."""

import errno
import os
import subprocess
import sys

import pytest
from studies import at_once, fails_for_seed_1, measured_at_once
from typer.testing import CliRunner

from qat.lab.cli import app

STUDY = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

BASE = ExperimentConfig(name="tiny", model="cnn(width=8)", data="digits", train=TrainConfig(steps=2))
AXES = {"seed": [0, 1]}
"""


def qat(*arguments):
    """Exit code, stdout and stderr of the command, in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def study(tmp_path):
    """A study file."""
    path = tmp_path / "tiny.py"
    path.write_text(STUDY)
    return path


def test_help_imports_nothing_heavy_and_takes_less_than_a_second():
    heavy = ("jax", "numpy", "pydantic", "rich")
    code = f"import sys, qat.lab.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    before = os.times()
    subprocess.run([sys.executable, "-m", "qat", "--help"], check=True, capture_output=True)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent < 1.0  # processor time: the wall clock also counts what else this machine does


def test_help_names_every_command():
    exit_code, out, _ = qat("--help")
    assert exit_code == 0
    assert all(command in out for command in ("sweep", "run", "report"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STUDY.replace("steps=2", "stepz=2"), "`stepz`: unknown field. Did you mean 'steps'?"),
        (STUDY.replace("AXES", "AXIS"), "must define `BASE`, an ExperimentConfig, and `AXES`"),
        (STUDY.replace("[0, 1]", "[]"), "at least one trial"),
        (STUDY.replace("[0, 1]", "[0, 0]"), "are the same config"),
        (STUDY.replace('"seed": [0', '"sed": [0'), "`sed`: unknown field. Did you mean 'seed'?"),
        (STUDY.replace("[0, 1]", "'01'"), "must be a list of values"),
        (STUDY + "BASE = = 3", "SyntaxError"),
        (STUDY.replace('"digits"', '"digitz"'), "Did you mean 'digits'?"),
    ],
    ids=["field", "no axes", "no trial", "twins", "axis", "no list", "syntax", "data"],
)
def test_a_mistake_in_the_study_is_one_clear_error_before_any_work(study, tmp_path, text, message):
    study.write_text(text)
    exit_code, _, err = qat("sweep", study, "--runs", tmp_path / "runs")
    assert exit_code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_a_mistake_on_the_command_line_is_one_clear_error(study, tmp_path):
    exit_code, _, err = qat("sweep", study, "--runs", tmp_path / "runs", "--set", "train.stepz=3", "--set", "sed=1")
    assert exit_code == 2
    assert "Did you mean 'steps'?" in err
    assert "Did you mean 'seed'?" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["sweep", "run"])
def test_a_missing_file_is_named(tmp_path, command):
    exit_code, _, err = qat(command, tmp_path / "missing.py")
    assert exit_code == 2
    assert "missing.py' is not a file" in err


def test_a_config_file_must_define_get_config(study):
    exit_code, _, err = qat("run", study)
    assert exit_code == 2
    assert "must define `get_config()`" in err


def test_a_report_needs_a_study(tmp_path):
    exit_code, _, err = qat("report", tmp_path)
    assert exit_code == 2
    assert "holds no study" in err


def test_prepared_data_that_is_missing_is_found_before_any_trial(study, tmp_path):
    missing = tmp_path / "prepared"
    study.write_text(STUDY.replace("digits", f"mnist(data_dir={str(missing)!r})"))
    exit_code, _, err = qat("sweep", study, "--runs", tmp_path / "runs")
    assert exit_code == 2
    assert str(missing) in err
    assert not (tmp_path / "runs" / "trials").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a"), "No space left on the disk for '/runs/a'"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), "No permission for '/data'"),
    ],
    ids=["full", "forbidden"],
)
def test_a_disk_that_refuses_is_one_clear_error(study, tmp_path, monkeypatch, error, message):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("qat.lab.sweep.work.run_stage", refuse)
    exit_code, _, err = qat("sweep", study, "--runs", tmp_path / "runs")
    assert exit_code == 2
    assert message in err


def test_an_error_that_is_nobodys_input_keeps_its_traceback(study, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("a bug in a library")

    monkeypatch.setattr("qat.lab.sweep.run.plan", broken)
    with pytest.raises(ValueError, match="a bug in a library"):
        qat("sweep", study, "--runs", tmp_path / "runs")


def test_stopping_by_hand_says_how_to_go_on(study, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("qat.lab.sweep.work.run_stage", stop)
    exit_code, _, err = qat("sweep", study, "--runs", tmp_path / "runs")
    assert exit_code == 130
    assert "Run the same command again" in err


def test_a_sweep_with_failures_reports_the_rest_and_ends_with_1(study, tmp_path, monkeypatch):
    monkeypatch.setattr("qat.lab.sweep.work.run_job", fails_for_seed_1)
    exit_code, out, err = qat("sweep", study, "--runs", tmp_path / "runs", "--retries", 0)
    assert exit_code == 1
    assert "loss nan at step 3" in err
    assert "1 of 2" in out
    assert (tmp_path / "runs" / "report" / "index.html").exists()
    monkeypatch.setattr("qat.lab.sweep.work.run_job", at_once)
    exit_code, _, err = qat("sweep", study, "--runs", tmp_path / "runs")
    assert exit_code == 0
    assert "1 of 2 trials are finished already" in err


def test_show_validate_status_and_replay_answer(study, tmp_path):
    runs = tmp_path / "runs"
    assert "2 trials" in qat("show", study, "--runs", runs)[1]
    assert qat("validate", study)[0] == 0
    qat("sweep", study, "--runs", runs)
    assert "2" in qat("status", runs)[1]
    trial = next((runs / "trials").iterdir())
    exit_code, out, _ = qat("replay", trial)
    assert exit_code == 0
    assert "every number is the same" in out


def test_a_file_that_is_wrong_fails_validation(study):
    study.write_text(STUDY.replace("steps=2", "stepz=2"))
    exit_code, out, _ = qat("validate", study)
    assert exit_code == 2
    assert "stepz" in out


def test_a_search_ends_in_a_report_and_its_best(study, tmp_path, monkeypatch):
    monkeypatch.setattr("qat.lab.sweep.work.run_job", at_once)
    monkeypatch.setattr("qat.lab.experiment.run.run_trial", measured_at_once)
    study.write_text(
        STUDY.split("AXES")[0].replace("train=", "arm='ptq', recipe='w8a8', train=")
        + "from qat.lab.sweep.space import Search\nSEARCH = Search(space={'bits:head': [4, 8]}, trials=2)\n"
    )
    exit_code, out, _ = qat("search", study, "--runs", tmp_path / "runs")
    assert exit_code == 0
    assert "2 trials finished" in out
    assert len(list((tmp_path / "runs" / "trials").iterdir())) == 2
    assert len(list((tmp_path / "runs" / "stages").glob("float-*"))) == 1
    assert "2 of 2 trials finished" in qat("status", tmp_path / "runs")[1]
