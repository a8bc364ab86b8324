"""The study in the page on models runs as it stands, and its model learns and is served."""

import re
from pathlib import Path

import pytest
from ownparts import forgotten
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.runs import load
from qat.models.adapter import FLAGS

PAGE = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")


def test_the_page_names_the_flags_that_a_module_may_take():
    assert all(f"`{flag}`" in PAGE for flag in FLAGS)


@pytest.mark.slow
def test_the_study_of_the_page_runs(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    study = tmp_path / "falls.py"
    study.write_text(code.replace("[0, 1, 2, 3]", "[0]"))
    with forgotten():
        short = ("--set", "train.steps=200", "--set", "finetune.steps=20")
        done = CliRunner().invoke(app, ["sweep", str(study), "--runs", str(tmp_path / "runs"), *short])
    assert done.exit_code == 0, done.output
    trials = load(tmp_path / "runs")
    assert sorted(set(trials["arm"])) == ["control", "float", "ptq", "qat"]
    assert trials["metric.rmse"].to_numpy().max() < 0.25, "a fall takes 1 s or so, with a deviation of 0.5"
