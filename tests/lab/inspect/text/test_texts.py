"""A text classifier beside its float model: what they make of the same texts."""

import csv
import io
import shutil

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from qat import data
from qat.data.text.sentences import texts_of
from qat.lab.cli import app
from qat.lab.inspect.text import Comparison, Outcome, compare, tables
from qat.lab.runs.record import read_record
from qat.tasks import fraction


def test_the_texts_that_differ_are_those_of_different_predictions_and_lost_ones_come_first(reviews):
    floating, quantized = reviews
    found = compare(quantized)
    arrays = [np.load(folder / "examples.npz") for folder in (quantized, floating)]
    assert sorted(found.differ) == np.flatnonzero(arrays[0]["prediction"] != arrays[1]["prediction"]).tolist()
    assert found.differ, "a model of two bits agrees with its float model on every text"
    lost = [bool(found.second.predictions[i] == found.labels[i]) for i in found.differ]
    assert lost == sorted(lost, reverse=True)
    assert found.texts == texts_of(data.load("sentiment(examples=128, held_out=0.5)").splits["test"])
    for folder, one in zip((quantized, floating), (found.first, found.second), strict=True):
        record = read_record(folder)
        assert record is not None
        assert one.counts.sum() == record.examples == len(found.texts)
        assert np.trace(one.counts) / record.examples == pytest.approx(record.metrics["accuracy"])


def test_a_model_does_not_differ_from_itself(reviews):
    assert compare(reviews[1], other=reviews[1]).differ == []


def test_what_is_shown_has_no_more_texts_than_asked_for_and_the_file_has_all(reviews, tmp_path):
    found = compare(reviews[1])
    console = Console(file=(shown := io.StringIO()), width=400)
    for table in tables(found, most=1):
        console.print(table)
    told = shown.getvalue()
    assert f"{len(found.differ)} of {len(found.texts)} texts get different predictions" in told
    assert sum(text in told for text in {found.texts[i] for i in found.differ}) == 1
    out = tmp_path / "new" / "differ.csv"
    result = CliRunner().invoke(app, ["texts", str(reviews[1]), "--out", str(out), "--most", "0"])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["text"] for row in rows] == [found.texts[i] for i in found.differ]
    assert all(row["float"] != row["ptq w2a2(edges='same')"] for row in rows)


def test_trials_that_cannot_be_compared_are_refused(reviews, tmp_path):
    with pytest.raises(ValueError, match="holds no finished trial"):
        compare(tmp_path)
    alone = tmp_path / "runs" / "trials" / "alone"
    shutil.copytree(reviews[1], alone)
    with pytest.raises(ValueError, match="holds no study"):
        compare(alone)
    signature = (alone / "signature.json").read_text()
    (alone / "signature.json").write_text(signature.replace("text_classification", "classification"))
    with pytest.raises(ValueError, match="must hold a classifier of texts, but its task is classification"):
        compare(alone)
    (alone / "signature.json").write_text(signature.replace('"negative"', '"bad"'))
    with pytest.raises(ValueError, match="were measured on different data"):
        compare(alone, other=reviews[0])


def test_trials_on_other_texts_of_the_same_number_are_refused(reviews, tmp_path):
    other = tmp_path / "runs" / "trials" / "other"
    shutil.copytree(reviews[1], other)
    with np.load(other / "examples.npz") as found:
        arrays = dict(found)
    np.savez(other / "examples.npz", **{**arrays, "label": arrays["label"][::-1]})
    with pytest.raises(ValueError, match="measured on 64 texts with other labels than the 64"):
        compare(reviews[1], other=other)


def test_names_of_classes_are_no_markup():
    outcome = Outcome("[a]", {fraction("accuracy"): 0.5}, np.array([0, 1]), np.array([[1, 0], [1, 0]]))
    other = Outcome("float", {}, np.array([1, 1]), np.array([[0, 1], [0, 1]]))
    console = Console(file=(told := io.StringIO()), width=400)
    for table in tables(Comparison(outcome, other, ["x", "y"], np.array([0, 1]), ("[b]", "[/c]"), [0]), most=1):
        console.print(table)
    assert all(text in told.getvalue() for text in ("[a]", "[b]", "[/c]"))
