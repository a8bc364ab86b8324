"""A mistake in the user's own files is told with its file, its line and that line's text."""

import sys

import pytest
import typer

from qat.fileio import place
from qat.lab.cli import app
from qat.lab.cli.app import one_clear_error
from qat.lab.sweep.study import load_any
from qat.lab.sweep.validate import validate
from qat.registry import parse_call

HEAD = """from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig
BASE = ExperimentConfig(name="base", model="cnn(width=4)", data="digits", train=TrainConfig(steps=10))
"""
MODEL = """from qat import models
@models.register
def {name}(classes=10):
    return 1 / 0
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


def told_by_all(path):
    """What every command says of the file."""
    with pytest.raises(ValueError, match=r"could not be run|`wanted`") as error:
        load_any(path, {})
    ((problem,),) = [checked.problems for checked in validate([path]).files]
    assert problem.message in str(error.value)
    return problem.message


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("x = 1\ny = zz + x\n", 2, "y = zz + x"),
        ("def f():\n    return [][1]\n\nf()\n", 2, "return [][1]"),
        ("import json\njson.loads('{')\n", 2, "json.loads('{')"),
        ("x = (\n", 1, "x = ("),
        ("def get_config():\n    return zz\n", 2, "return zz"),
    ],
    ids=["at the top", "in a function", "in a library", "syntax", "when called"],
)
def test_a_mistake_is_told_with_its_line(write, text, line, shown):
    said = told_by_all(write("bug.py", text))
    assert f"bug.py', line {line} could not be run: " in said
    assert f"(`{shown}`)" in said


@pytest.mark.parametrize("mistake", ["y = zz", "y = ("])
def test_a_mistake_in_a_module_of_the_user_is_told_there(write, mistake):
    name = "deeper_" + ("a" if mistake == "y = zz" else "b")
    write(f"{name}.py", f"x = 1\n{mistake}\n")
    write(f"{name}_middle.py", f"import {name}\n")
    said = told_by_all(write("bug.py", f"import {name}_middle\n"))
    assert f"{name}.py', line 2: `{mistake}`" in said
    assert "bug.py' could not be run: " in said


def test_a_mistake_of_a_models_code_is_told_where_the_model_is_made(write):
    path = write("study.py", HEAD + MODEL.format(name="halves") + 'AXES = {"model": ["halves"]}\n')
    (problem,) = validate([path]).problems
    assert "study.py', line 7: `return 1 / 0`" in problem.message


def test_wanted_that_goes_wrong_is_told_with_its_line(write):
    path = write("study.py", HEAD + 'AXES = {"seed": [0]}\ndef wanted(labels):\n    return labels["sed"]\n')
    assert 'line 6: `return labels["sed"]`' in told_by_all(path)


def test_what_is_not_the_users_has_no_place():
    with pytest.raises(ValueError, match="expected a name") as error:
        parse_call("1 + 1")
    found = place(error.value)
    assert found is not None and found.file.name == "test_mistake.py"
    assert place(ValueError("never raised")) is None


def test_a_file_that_ends_the_process_does_not_hide_the_mistakes_of_the_others(write, tmp_path):
    write("a_ends.py", "import sys\nsys.exit(0)\n")
    write("b_wrong.py", HEAD + 'AXES = {"sed": [0]}\n')
    assert [checked.file.name for checked in validate([tmp_path]).files if checked.problems] == [
        "a_ends.py",
        "b_wrong.py",
    ]


DATA = """import sys
from qat import data
@data.register
def {name}():
    sys.exit(0)
"""


def test_data_that_end_the_process_are_no_success(write, tmp_path, capsys):
    path = write("study.py", HEAD + DATA.format(name="ends") + 'AXES = {"data": ["ends"]}\n')
    (problem,) = validate([path]).problems
    assert problem.field == "data" and "study.py', line 8: `sys.exit(0)`" in problem.message
    with pytest.raises(SystemExit) as end:
        app(["sweep", str(path), "--runs", str(tmp_path / "runs")])
    assert end.value.code == 2
    assert "ended its process with exit code 0 (" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["cnn(**{'width': 64})", "cnn(*[1])", "cnn(width=1, width=3)", "cnn(a={[]: 1})", "(" * 300 + ")" * 300, "cnn(x)"],
)
def test_a_call_that_says_less_than_it_seems_to_is_refused(text):
    with pytest.raises(ValueError, match=r"not taken in|is given 2 times|expected a name or a call"):
        parse_call(text)


def test_a_command_whose_users_code_ends_the_process_is_an_error(capsys):
    with pytest.raises(typer.Exit) as end, one_clear_error():
        sys.exit(0)
    assert end.value.exit_code == 2
    told = capsys.readouterr().err
    assert "ended its process with exit code 0 (" in told and "test_mistake.py', line" in told
