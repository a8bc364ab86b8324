"""`qat init` writes a study that runs; `qat list` tells the names that a config may use."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.cli.starting import REGISTRIES, STARTER, registry_of
from qat.lab.runs import load

ROOT = Path(__file__).parents[3]


def qat(*arguments):
    """Exit code and output of the command, in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def separately(*commands):
    """Commands in one process of their own, so that what a study registers stays out of this one."""
    texts = [[str(part) for part in command] for command in commands]
    code = f"from qat.lab.cli import app\nexit(max(app(one, standalone_mode=False) or 0 for one in {texts}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_starter_study_is_valid_and_its_parts_are_listed(tmp_path):
    folder = tmp_path / "new" / "mine"
    exit_code, out, _ = qat("init", folder)
    assert exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["my_data.py", "my_model.py", "study.py"]
    assert f"qat sweep {folder / 'study.py'}" in out
    done = separately(["validate", folder / "study.py"], ["list", "models", folder / "study.py"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my_mlp(classes: int, width: int = 32)\n    Two dense layers with ReLU, then the logits." in done.stdout


@pytest.mark.slow
def test_the_starter_study_runs(tmp_path):
    qat("init", tmp_path)
    small = ("--fast", "--set", "train.steps=20", "--set", "finetune.steps=10", "--runs", tmp_path / "runs")
    done = separately(["sweep", tmp_path / "study.py", *small])
    assert done.returncode == 0, done.stderr
    trials = load(tmp_path / "runs")
    assert len(trials) == 16
    assert set(trials["arm"]) == {"float", "control", "ptq", "qat"}


@pytest.mark.parametrize("name", ["study.py", "my_data.py"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    exit_code, _, err = qat("init", tmp_path)
    assert exit_code == 2
    assert f"already holds {name}: nothing was written" in err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_no_folder_to_write_to(tmp_path):
    (tmp_path / "mine").write_text("")
    exit_code, _, err = qat("init", tmp_path / "mine")
    assert exit_code == 2
    assert "must be a folder or not exist" in err


def test_the_wheel_carries_the_starter():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    carried = {
        path
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    assert carried >= set(STARTER.iterdir()) - {STARTER / "__pycache__"}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registered_name_is_listed_with_its_signature_and_docstring(kind):
    exit_code, out, _ = qat("list", kind)
    assert exit_code == 0
    lines, registry = out.splitlines(), registry_of(kind)
    names = [line.split("(")[0] for line in lines[::2]]
    assert names == registry.names()
    own = [name for name in names if all((ROOT / "qat") in path.parents for path in registry.sources(name))]
    assert own  # other tests may have registered names of theirs, with no docstring
    told = dict(zip(names, lines[1::2], strict=True))
    assert all(told[name].startswith("    ") and len(told[name]) > 10 for name in own)


def test_signatures_are_listed_as_a_config_may_call_them():
    _, out, _ = qat("list", "observers")
    assert "percentile(" in out
    assert "->" not in out


def test_an_unknown_kind_is_refused_with_the_known_ones():
    exit_code, _, err = qat("list", "observer")
    assert exit_code == 2
    assert f"Unknown kind 'observer'. Known: {', '.join(REGISTRIES)}. Did you mean 'observers'?" in err
