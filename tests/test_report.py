"""The summary of a study: what is compared with what, and the files that show it."""

import csv

import pytest
from studies import ARMS, BASE, QUIET, fake_trial

from qat.config import digest, lineage
from qat.report import rich_table, summarize, write_report
from qat.sweep.run import run_study
from qat.sweep.study import make_study


def test_the_summary_pairs_each_trial_with_the_float_model_and_the_control_of_its_seed(tmp_path):
    accuracy = {"float": 0.90, "control": 0.92, "ptq": 0.85}
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1, 2]})
    records = run_study(study, tmp_path, QUIET, fake_trial(lambda config: accuracy[config.arm] + 0.01 * config.seed))
    trained, control, ptq = summarize(records)
    assert [row.arm for row in (trained, control, ptq)] == ["float", "control", "ptq"]
    assert trained.accuracy.mean == pytest.approx(91.0)
    assert trained.drop_from_float is None
    assert control.drop_from_float is not None
    assert control.drop_from_float.mean == pytest.approx(-2.0)
    assert control.drop_from_control is None
    assert ptq.drop_from_float is not None
    assert ptq.drop_from_float.mean == pytest.approx(5.0)
    assert ptq.drop_from_float.half_width == pytest.approx(0.0, abs=1e-9)
    assert ptq.drop_from_control is not None
    assert ptq.drop_from_control.mean == pytest.approx(7.0)
    assert (ptq.size_bytes, ptq.size_ratio) == (100, 4.0)


def test_trials_of_other_settings_are_not_compared():
    study = make_study("s", BASE, {"arm": {"float": {"arm": "float"}}, "seed": [0]})
    other = make_study("s", BASE, {"arm": {"ptq": {"arm": "ptq", "recipe": "w8a8", "train.steps": 11}}, "seed": [0]})
    assert lineage(study.trials[0].config).float_stage != lineage(other.trials[0].config).float_stage
    assert digest(study.trials[0].config) != digest(other.trials[0].config)


def test_the_report_writes_table_and_plot(tmp_path):
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1]})
    rows = summarize(run_study(study, tmp_path, QUIET, fake_trial(lambda config: 0.5 + 0.1 * config.seed)))
    paths = write_report(tmp_path, rows, "s")
    assert [path.name for path in paths] == ["table.csv", "table.md", "accuracy.png"]
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(line["arm"], line["n"], float(line["accuracy"])) for line in lines] == [
        (arm, "2", pytest.approx(55.0)) for arm in ("float", "control", "ptq")
    ]
    assert (tmp_path / "table.md").read_text().count("| ptq | w8a8 | 2 | 55.00 ± ") == 1
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert rich_table(rows, "s").row_count == 3
