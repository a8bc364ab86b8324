"""The summary of a study: arms compared per test example."""

import numpy as np
import pytest
from records import make_record, write_examples

from qat.lab.report.html.verdicts import answer
from qat.lab.report.summary import summarize
from qat.lab.report.table import markdown

SEEDS = (0, 1, 2)
SAME = ("w8a8", "w7a7", "w6a6", "w5a5", "w4a8", "w3a8", "w4a4", "w3a3")


def known[T](value: T | None) -> T:
    """What must be there."""
    assert value is not None
    return value


def test_items_are_compared_where_all_trials_of_an_arm_have_them(tmp_path):
    rng = np.random.default_rng(0)
    records, folders = [], {}
    for seed in SEEDS[:1]:
        hard = rng.random(1000)
        for arm, recipe, share in (("float", None, 0.95), ("ptq", "w8a8", 0.95), ("ptq", "w2a4", 0.6)):
            correct = (hard < share).astype(np.float32)
            record = make_record(arm, recipe, seed, float(correct.mean(dtype=np.float64)))
            folders[record.trial] = write_examples(tmp_path / record.trial, accuracy=correct)
            records.append(record)
    without, same, lost = summarize(records)[1], *summarize(records, folders)[1:]
    assert without.verdicts["float"].kind == "undecided"
    assert (same.verdicts["float"].kind, same.verdicts["float"].covers) == ("undecided", ())
    assert (lost.verdicts["float"].kind, lost.verdicts["float"].covers) == ("worse", ("items",))
    assert known(lost.verdicts["float"].items).test == "McNemar"
    assert known(lost.verdicts["float"].items).difference.mean == pytest.approx(-known(lost.drop_from_float).mean)
    del folders[records[0].trial]
    assert [row.verdicts["float"].items for row in summarize(records, folders)[1:]] == [None, None]


@pytest.mark.parametrize("damage", ["missing", "cut off", "other name", "nan", "other mean", "fewer", "objects"])
def test_items_that_cannot_be_trusted_are_left_out(tmp_path, damage):
    right = np.ones(100, np.float32)
    records = [make_record("float", None, 0, 1.0), make_record("ptq", "w8a8", 0, 1.0)]
    folders = {record.trial: write_examples(tmp_path / record.trial, accuracy=right) for record in records}
    assert summarize(records, folders)[1].verdicts["float"].items is not None
    path = folders[records[1].trial] / "examples.npz"
    arrays = {
        "other name": {"other": right},
        "nan": {"accuracy": right * np.nan},
        "other mean": {"accuracy": right / 2},
        "fewer": {"accuracy": right[1:]},
        "objects": {"accuracy": np.array(["1"] * 100)},
    }
    if damage == "missing":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:100])
    else:
        write_examples(path.parent, **arrays[damage])
    assert summarize(records, folders)[1].verdicts["float"].items is None


def test_items_of_several_seeds_are_averaged(tmp_path):
    rng = np.random.default_rng(1)
    records, folders = [], {}
    for seed in SEEDS:
        for arm, recipe, share in (("float", None, 0.95), ("ptq", "w2a4", 0.6 + 0.01 * seed)):
            correct = (rng.random(500) < share).astype(np.float32)
            records.append(make_record(arm, recipe, seed, float(correct.mean(dtype=np.float64))))
            folders[records[-1].trial] = write_examples(tmp_path / records[-1].trial, accuracy=correct)
    row = summarize(records, folders)[1]
    items = known(row.verdicts["float"].items)
    assert (items.test, items.difference.n) == ("paired bootstrap", 500)
    assert items.difference.mean == pytest.approx(-known(row.drop_from_float).mean)
    assert row.verdicts["float"].covers == ("seeds", "items")


@pytest.fixture
def losing(tmp_path):
    """Rows of recipes that lose nothing, and last of one that loses much, how much depending on the seed."""
    rng = np.random.default_rng(2)
    records, folders = [], {}
    for seed in SEEDS:
        shares = {
            (None, "float"): 0.95,
            **{(recipe, "ptq"): 0.95 for recipe in SAME},
            ("w2a4", "ptq"): 0.9 - 0.2 * seed,
        }
        for (recipe, arm), share in shares.items():
            correct = (rng.random(500) < share).astype(np.float32)
            records.append(make_record(arm, recipe, seed, float(correct.mean(dtype=np.float64))))
            folders[records[-1].trial] = write_examples(tmp_path / records[-1].trial, accuracy=correct)
    return summarize(records, folders)


def test_what_items_show_of_these_models_alone_stands_in_brackets(losing):
    same, lost = losing[-2:]
    assert (lost.verdicts["float"].kind, lost.verdicts["float"].of_these_models) == ("undecided", "worse")
    assert same.verdicts["float"].of_these_models is None
    text = markdown([same, lost], "a study")
    assert f"| (▼) {-known(lost.verdicts['float'].seeds).difference.mean:+.2f} (" in text
    assert "in brackets what new test items would show of these models alone" in text
    assert "in brackets" not in markdown([same], "a study")


def test_of_many_verdicts_those_that_show_something_stand_open_on_the_page(losing):
    page = str(answer(losing))
    before, folded = page.split("<details", 1)
    assert "<b>1</b> of them worse for these models alone" in before
    assert before.count("<li") == 1
    assert "PTQ w2a4 against float is undecided" in before
    assert folded.count("<li") == len(SAME) + 1
