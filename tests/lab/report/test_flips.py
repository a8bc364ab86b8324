"""Examples that float gets right and a quantized model wrong: found by outcome, shown where the data are at hand."""

import json

import numpy as np
import pytest
from browser import tab
from made_up_detections import made_up
from pages import written
from records import make_record, write_examples, write_study

from qat.data import load
from qat.lab.report import samples as samples_module
from qat.lab.report.contents import read_contents
from qat.lab.report.flips import Outcome, flips, outcomes
from qat.lab.report.html.examples import changed, examples
from qat.lab.report.samples import samples

EXAMPLES = 6


def outcome(right, probability, said):
    return Outcome(np.array(right), np.array(said), np.array(probability))


FLOAT = outcome([1, 1, 1, 0, 0, 1], [0.9, 0.8, 0.7, 0.1, 0.2, 0.6], [3, 5, 3, 1, 2, 4])
FIRST = outcome([0, 1, 0, 1, 0, 1], [0.1, 0.8, 0.3, 0.9, 0.2, 0.6], [1, 5, 2, 8, 2, 4])
SECOND = outcome([1, 1, 0, 0, 0, 1], [0.8, 0.8, 0.2, 0.1, 0.2, 0.6], [3, 5, 2, 1, 2, 4])


def test_flips_come_by_the_seeds_that_have_them_and_then_by_how_far_the_probability_moved():
    found = flips([(FLOAT, FIRST), (FLOAT, SECOND)])
    assert [(one.example, one.seeds) for one in found.lost] == [(2, 2), (0, 1)]
    assert [(one.example, one.said, one.scores) for one in found.won] == [(3, (1, 8), (0, 1))]
    assert found.counts == (1.5, 0.5) and found.examples == EXAMPLES


def study(root, data="digits(held_out=0.25)", fingerprint=None):
    """A float model that is right everywhere, and a quantized one that is wrong on two examples; of digits."""
    right = {"float": np.ones(EXAMPLES), "ptq": np.array([1, 0, 1, 1, 0, 1])}
    records = [make_record("float", None, 0, 1.0), make_record("ptq", "w4a4", 0, 4 / 6)]
    write_study(root, records)
    known = load("digits(held_out=0.25)")
    labels = np.array([known.splits["test"][i]["label"] for i in range(EXAMPLES)])
    for record in records:
        folder = root / "trials" / record.trial
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "data": data}))
        (folder / "manifest.json").write_text(json.dumps({"data_fingerprint": fingerprint or known.fingerprint}))
        said = np.where(right[record.arm] == 1, labels, (labels + 1) % 10)
        np.savez(folder / "examples.npz", accuracy=right[record.arm], prediction=said)
        path = folder / "record.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in found.items() if name not in ("files", "digest")}))
    return read_contents(root)


GROUPS = {"a-float-0": "float", "a-ptq-w4a4-0": "PTQ w4a4"}


def test_images_of_the_flipped_examples_are_shown_with_their_true_label(tmp_path):
    found = changed(study(tmp_path / "s"), GROUPS)
    assert [one.example for one in found.arms["PTQ w4a4"].lost] == [1, 4]
    assert set(found.samples.shown) == {1, 4} and found.samples.note == ""
    truth = load("digits(held_out=0.25)").splits["test"]
    for i, one in found.samples.shown.items():
        assert one["label"] == truth[i]["label"] and one["image"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": "mine(1)"}, "'mine' is of the study's own code"),
        ({"fingerprint": "another"}, "not the one that was measured on"),
        ({"data": "text_file(train='/etc/hostname')"}, "told by their index alone"),
    ],
    ids=["own code", "changed", "a file of the reader's"],
)
def test_data_that_are_not_what_was_measured_on_are_not_shown_and_the_page_says_why(tmp_path, changes, why):
    found = changed(study(tmp_path / "s", **changes), GROUPS)
    assert not found.samples.shown and why in found.samples.note
    assert len(found.arms["PTQ w4a4"].lost) == 2 and why.replace("'", "&#x27;") in examples(found)


def test_labels_that_do_not_fit_the_outcomes_are_no_examples(tmp_path):
    contents = study(tmp_path / "s")
    found = samples(contents, contents.trials, [0], {0: 11})
    assert not found.shown and "labels are not those" in found.note


def test_what_does_not_fit_is_left_out_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "BUDGET", 200)
    found = changed(study(tmp_path / "s"), GROUPS).samples
    assert len(found.shown) == 1 and "1 of the examples are left out" in found.note


def test_a_study_without_outcomes_says_so(tmp_path):
    write_study(tmp_path / "s", [make_record("float", None, 0, 1.0), make_record("ptq", "w4a4", 0, 0.9)])
    assert "No examples to show" in examples(changed(read_contents(tmp_path / "s"), GROUPS))


def test_a_detector_loses_images_on_which_it_finds_fewer_objects(tmp_path):
    arrays = made_up(images=8)
    fewer = {**arrays, "scores": np.where(np.arange(8)[:, None] < 3, 0.0, arrays["scores"])}
    records = [make_record("float", None, 0, 0.9), make_record("ptq", "w4a4", 0, 0.8)]
    folders = {}
    for record, found in zip(records, (arrays, fewer), strict=True):
        folders[record.trial] = write_examples(tmp_path / record.trial, **found)
    (pair,) = outcomes(records, folders).values()
    found = flips([pair])
    assert {one.example for one in found.lost} <= {0, 1, 2} and not found.won
    for one in found.lost:
        assert one.boxes is not None and sum(box[-1] for box in one.boxes[0]) == one.scores[0] > one.scores[1] == 0


def test_the_cards_of_an_arm_are_drawn_with_text_that_stays_text(browser, tmp_path):
    contents = study(tmp_path / "s")
    with tab(browser) as opened:
        opened.go(written(contents.root).address)
        opened.run("see('lost')")
        opened.until("document.querySelectorAll('#lost figure').length === 2")
        assert opened.run("[...document.querySelectorAll('#lost img')].every((one) => one.complete)")
        hostile = "{ examples: { 0: { text: '<b id=hit>' } }, names: [] }"
        opened.run(f"document.body.append(card([0, 1, [1, 0], null, null, null], {hostile}, 2))")
        assert opened.run("find('hit')") is None
        assert opened.problems() == []
