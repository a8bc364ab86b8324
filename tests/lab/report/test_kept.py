"""Verdicts are recomputed from the small file that is kept beside a study's table."""

import json

import numpy as np
import pytest
from made_up_detections import made_up
from records import make_record, write_examples, write_study
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.report.contents import read_contents
from qat.lab.report.kept import keep_outcomes, read_kept
from qat.lab.report.mcnemar import paired
from qat.lab.report.summary import summarize
from qat.lab.report.table import contrasts, csv_text
from qat.lab.report.write import rows_of
from qat.tasks.detection.metrics import metrics
from qat.tasks.detection.task import METRICS

ARMS = (("float", None, 0.9), ("ptq", "w2a4", 0.6), ("qat", "w2a4", 0.85))
ITEMS = 501  # no multiple of 8


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A classifier's study with a declared contrast."""
    rng, records, answers = np.random.default_rng(0), [], {}
    for arm, recipe, share in ARMS:
        for seed in range(3):
            right = (rng.random(ITEMS) < share + 0.01 * seed).astype(np.float32)
            records.append(
                make_record(arm, recipe, seed, float(right.mean(dtype=np.float64)), examples=ITEMS, provenance="long")
            )
            answers[records[-1].trial] = right
    root = write_study(tmp_path_factory.mktemp("kept") / "runs", records)
    for trial, right in answers.items():
        write_examples(root / "trials" / trial, accuracy=right)
    path = root / "study.json"
    declared = [{"first": "qat w2a4", "second": "ptq w2a4", "margin": 0.5, "seen": 0}]
    path.write_text(json.dumps({**json.loads(path.read_text()), "contrasts": declared}))
    return root


def test_every_number_of_the_summary_comes_out_the_same(study, tmp_path):
    kept = read_kept(keep_outcomes(study, tmp_path / "table.csv"))
    rows = summarize(kept.records, kept.outcomes, None, kept.contrasts)
    assert csv_text(rows) == csv_text(rows_of(read_contents(study)))
    (found,) = contrasts(rows)
    assert found.declared and found.margin == 0.5 and found.items is not None
    assert [one.p_values for one in paired(tmp_path / "table.csv")] == [one.p_values for one in paired(study)]
    assert (tmp_path / "table.npz").stat().st_size < 1000 * len(kept.records)


def test_values_that_are_not_right_or_wrong_are_kept_as_they_are(tmp_path):
    values = np.linspace(0, 1, 50, dtype=np.float32)
    record = make_record("float", None, 0, float(values.mean(dtype=np.float64)), examples=50)
    root = write_study(tmp_path / "runs", [record])
    write_examples(root / "trials" / record.trial, accuracy=values)
    kept = read_kept(keep_outcomes(root, tmp_path / "table.csv"))
    found = kept.outcomes.examples(kept.records[0], None)
    assert found is not None and found.tolist() == values.tolist()
    assert kept.outcomes.examples(kept.records[0], "cross_entropy") is None


def test_of_detectors_the_draws_are_kept(tmp_path):
    arrays = made_up(images=30, detections=10, decimals=9)
    numbers = {name: value for name, value in metrics(arrays).items() if "/" not in name}
    records = []
    for arm, recipe in (("float", None), ("ptq", "w4a4")):
        records.append(make_record(arm, recipe, 0, task_metrics=METRICS, metrics=numbers, examples=30))
    root = write_study(tmp_path / "runs", records)
    for record in records:
        write_examples(root / "trials" / record.trial, **arrays)
    kept = read_kept(keep_outcomes(root, tmp_path / "table.csv"))
    again = summarize(kept.records, kept.outcomes)[1].verdicts["float"]
    assert again.items is not None and again.text == rows_of(read_contents(root))[1].verdicts["float"].text


def test_the_commands_keep_and_recompute(study, tmp_path):
    file = tmp_path / "results" / "table.csv"
    kept = CliRunner().invoke(app, ["keep", str(study), str(file), "--metric", "accuracy"])
    assert kept.exit_code == 0 and "table.npz" in kept.output
    told = CliRunner().invoke(app, ["report", str(file)])
    assert told.exit_code == 0
    assert "Declared: QAT w2a4 is better than PTQ w2a4" in told.output
    assert CliRunner().invoke(app, ["mcnemar", str(file)]).exit_code == 0


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*table.npz"):
        read_kept(tmp_path / "table.csv")
    (tmp_path / "table.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"table.npz' is damaged"):
        read_kept(tmp_path / "table.csv")
