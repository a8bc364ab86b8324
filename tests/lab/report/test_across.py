"""Several studies of one task on one page: what changed, and studies whose numbers do not compare refused."""

import json

import numpy as np
import pytest
from records import make_record, write_study

from qat.lab.report.across import as_changes, combine
from qat.lab.report.contents import read_contents
from qat.lab.report.html.page import page
from qat.lab.report.write import rows_of
from qat.tasks.metric import Metric

SEEDS = 4


def study(root, gain=0.0, data="digits", fingerprint="1", seeds=SEEDS, **changes):
    rng = np.random.default_rng(round(1000 * gain))
    records = [
        make_record(arm, recipe, seed, 0.9 + 0.001 * rng.normal() + (gain if arm == "ptq" else 0.0), **changes)
        for arm, recipe in (("float", None), ("ptq", "w4a4"))
        for seed in range(seeds)
    ]
    write_study(root, records, name="mine")
    for record in records:
        folder = root / "trials" / record.trial
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "data": data}))
        (folder / "manifest.json").write_text(json.dumps({"data_fingerprint": fingerprint}))
    return read_contents(root)


def test_each_arm_is_compared_with_itself_and_comparisons_within_a_study_stay(tmp_path):
    before, after = study(tmp_path / "old"), study(tmp_path / "new", gain=0.02)
    both = combine([before, after])
    rows = as_changes(rows_of(both))
    assert [row.name for row in rows] == ["old, float", "old, ptq w4a4", "new, float", "new, ptq w4a4"]
    changes = {(one.first, one.second): one for row in rows for one in row.contrasts}
    assert set(changes) == {("new, float", "old, float"), ("new, ptq w4a4", "old, ptq w4a4")}
    assert changes["new, ptq w4a4", "old, ptq w4a4"].kind == "better"
    assert abs(changes["new, float", "old, float"].deciding.difference.mean) < 0.3
    alone = [rows_of(one)[1] for one in (before, after)]
    within = [row for row in rows if row.arm == "ptq"]
    assert [row.drop_from_float for row in within] == [row.drop_from_float for row in alone]
    assert both.folder("new: a-float-0") == tmp_path / "new" / "trials" / "a-float-0"


def test_the_page_of_two_says_what_they_are_and_nothing_of_declarations(tmp_path):
    both = combine([study(tmp_path / "old"), study(tmp_path / "new", gain=0.02)])
    text = page(both, as_changes(rows_of(both)))
    assert "What has changed from old to new, arm by arm?" in text and "Each arm against the time before" in text
    assert "declared after" not in text and "declared contrasts</h3>" not in text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": "mnist"}, "asks for digits, .* for mnist"),
        ({"fingerprint": "2"}, "fingerprint 1, .* fingerprint 2"),
        ({"examples": 50}, "100 test examples"),
        ({"task_metrics": (Metric("rmse", "lower"),), "metrics": {"rmse": 1.0}}, "accuracy, % .* rmse"),
    ],
    ids=["data", "fingerprint", "examples", "metric"],
)
def test_studies_whose_numbers_do_not_compare_are_refused_with_the_reason(tmp_path, changes, why):
    with pytest.raises(ValueError, match=why):
        combine([study(tmp_path / "old"), study(tmp_path / "new", **changes)])


def test_a_folder_twice_and_a_study_without_results_are_refused(tmp_path):
    one = study(tmp_path / "old")
    with pytest.raises(ValueError, match="names one folder twice"):
        combine([one, one])
    with pytest.raises(ValueError, match="no finished trial"):
        combine([one, study(tmp_path / "new", seeds=0)])
