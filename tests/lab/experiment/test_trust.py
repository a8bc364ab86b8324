"""Whose code runs: what a run folder names runs on request alone, and is the user's own or trusted expressly."""

import io
import json

import numpy as np
import pytest
from rich.console import Console
from run_folders import make_runs

from qat.export import export_model
from qat.lab.cli.app import app
from qat.lab.experiment.plugins import is_own
from qat.lab.inspect.bench import Extent, bench
from qat.lab.inspect.detector.load import load_detector, load_float_stage
from qat.lab.inspect.export import export_trial
from qat.lab.inspect.parity import parity_of_trial
from qat.lab.inspect.text import compare
from qat.lab.inspect.trial import load_trial
from qat.lab.report.mcnemar import paired
from qat.lab.report.server import Board
from qat.lab.report.write import tell_report
from qat.lab.runs import keep, load
from qat.lab.runs.manifest import Signature, write_signature
from qat.lab.serving.run import serve
from qat.lab.sweep.on_target import check_file_or_trial
from qat.lab.sweep.replay import replay
from qat.lab.sweep.status import status
from qat.lab.sweep.why import why

USES = {
    "load_trial": (lambda trial, trust: load_trial(trial, trust=trust), "classification"),
    "replay": (lambda trial, trust: replay(trial, lambda *_: None, trust=trust), "classification"),
    "detect": (lambda trial, trust: load_detector(trial, trust=trust), "detection"),
    "export": (lambda trial, trust: export_trial(trial, "safetensors", trust=trust), "detection"),
    "parity": (lambda trial, trust: parity_of_trial(trial, exported_beside(trial), trust=trust), "detection"),
    "bench": (lambda trial, trust: bench([str(trial)], Extent(), trust=trust), "detection"),
    "detect beside float": (lambda trial, trust: load_float_stage(trial, trust=trust), "detection"),
    "show": (lambda trial, trust: why(trial.parent.parent, trial.name, {}, None, trust=trust), "classification"),
    "check-target": (
        lambda trial, trust: check_file_or_trial(str(trial), "ort-cpu", {}, trust=trust),
        "classification",
    ),
    "texts": (lambda trial, trust: compare(trial, trust=trust), "text_classification"),
    "serve": (lambda trial, trust: serve(trial, port=0, trust=trust), "classification"),
}


def exported_beside(trial):
    """An exported file that is whole, beside a trial."""
    path = trial.parent / "exported.safetensors"
    export_model(
        path, lambda params, x: x * params, np.ones(2, np.float32), np.ones((1, 2), np.float32), to="safetensors"
    )
    return path


NOBODY = Console(file=io.StringIO())
READS = {
    "status": status,
    "report": lambda root: tell_report(root, None, NOBODY, NOBODY),
    "dashboard": lambda root: (Board(root, None).page(), Board(root, None).stamp()),
    "mcnemar": paired,
    "keep": lambda root: keep(root, root / "kept.csv", ["accuracy"]),
    "load": load,
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A run folder from somebody else, whose study names a file that it brings along, and where that leaves a mark."""
    root = tmp_path / "runs"
    make_runs(root, 3, seeds=1)
    mark, file = tmp_path / "it-ran", root / "theirs.py"
    file.write_text(f"open({str(mark)!r}, 'w').close()\n")
    name_import(root, file)
    monkeypatch.chdir(tmp_path)
    return root


def name_import(root, file):
    study = json.loads((root / "study.json").read_text())
    (root / "study.json").write_text(json.dumps({**study, "imports": [str(file)]}))


def trial_of(root, task):
    """A trial that needs what the study's file may register."""
    trial = root / "trials" / json.loads((root / "study.json").read_text())["trials"][0]["id"]
    config = json.loads((trial / "config.json").read_text())
    (trial / "config.json").write_text(json.dumps({**config, "model": "a_model_of_theirs"}))
    write_signature(trial, Signature(task=task, classes=10, input_shape=(28, 28, 1)))
    return trial


@pytest.mark.parametrize("use", USES)
def test_a_file_that_the_run_folder_brings_along_is_run_by_trust_alone(runs, tmp_path, capsys, use):
    do, task = USES[use]
    trial = trial_of(runs, task)
    with pytest.raises(ValueError, match=r"runs' names '.*theirs.py', whose code would run now.*`--trust`"):
        do(trial, False)
    assert not (tmp_path / "it-ran").exists()
    with pytest.raises(ValueError, match="Unknown model 'a_model_of_theirs'"):  # which the file does not register
        do(trial, True)
    assert (tmp_path / "it-ran").exists()
    assert "theirs.py, which" in capsys.readouterr().err


@pytest.mark.parametrize("use", USES)
def test_a_file_of_the_users_own_project_is_run_and_told(runs, tmp_path, capsys, use):
    do, task = USES[use]
    own = tmp_path / "experiments" / "own.py"
    own.parent.mkdir()
    own.write_text((runs / "theirs.py").read_text())
    name_import(runs, own)
    with pytest.raises(ValueError, match="Unknown model 'a_model_of_theirs'"):
        do(trial_of(runs, task), False)
    assert (tmp_path / "it-ran").exists()
    assert f"Runs {own}, which {runs} names." in capsys.readouterr().err


@pytest.mark.parametrize("read", READS)
def test_what_only_reads_a_run_folder_runs_nothing_of_it(runs, tmp_path, read):
    trial_of(runs, "classification")
    READS[read](runs)
    assert not (tmp_path / "it-ran").exists()


def test_the_project_is_the_repository_around_or_the_folder_that_one_works_in(tmp_path, monkeypatch):
    inner = tmp_path / "repository" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    file, runs = tmp_path / "repository" / "a.py", inner / "runs"
    assert not is_own(file, runs)
    (tmp_path / "repository" / ".git").mkdir()
    assert is_own(file, runs)
    assert not is_own(tmp_path / "b.py", runs)
    assert not is_own(inner / ".." / ".." / "b.py", runs)
    assert not is_own(runs / "c.py", runs)
    (inner / "link.py").symlink_to(tmp_path / "b.py")
    assert not is_own(inner / "link.py", runs)


def test_every_command_that_takes_a_run_folder_is_one_that_only_reads_or_asks_for_trust():
    reads = {"status", "report", "dashboard", "mcnemar", "keep"}
    trusting = {
        command.callback.__name__
        for command in app.registered_commands
        if command.callback and "trust" in command.callback.__annotations__
    }
    files = {"sweep", "run", "search", "show", "validate", "allocate", "guard", "audit"}  # these are given files to run
    without = {"init", "list_names"}  # these take no run folder
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == (
        reads | trusting | files | without
    )
    assert trusting == {  # `show --why RUNS`
        "replay",
        "detect",
        "texts",
        "show",
        "serve",
        "check_target",
        "export",
        "parity",
        "bench",
    }
