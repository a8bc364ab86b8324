"""A study of perplexity, of which lower is better, from its records to the page, the pictures and the kept table."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from records import make_record, write_study
from typer.testing import CliRunner

from qat.lab.cli import app
from qat.lab.report.contents import read_contents
from qat.lab.report.write import rows_of
from qat.lab.runs import load
from qat.lab.runs.record import read_record
from qat.tasks.metric import Metric

PERPLEXITY = Metric("perplexity", "lower", range=(1.0, None), margin=0.1)
METRICS = (PERPLEXITY, Metric("bits_per_byte", "lower", unit="bits"), Metric("top1"))
ARMS = [("float", None, 5.0), ("control", None, 4.9), ("ptq", "w8a8", 5.02), ("ptq", "w4a4", 6.5), ("qat", "w4a4", 5.5)]
SIZES = {None: 400, "w8a8": 100, "w4a4": 60}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    rng, records = np.random.default_rng(0), []
    for seed in range(4):
        luck = 0.05 * rng.normal()
        for arm, recipe, value in ARMS:
            numbers = {"perplexity": value + luck + 0.01 * rng.normal(), "bits_per_byte": value / 4, "top1": 0.3}
            size = SIZES[recipe] - (arm == "qat")
            records.append(make_record(arm, recipe, seed, task_metrics=METRICS, metrics=numbers, size_bytes=size))
    folder = write_study(tmp_path_factory.mktemp("runs") / "study", records)
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def page(root):
    return (root / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def data(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    return json.loads(found[1])


def test_a_record_keeps_what_its_metrics_are(root):
    record = read_record(next((root / "trials").iterdir()))
    assert record is not None
    assert record.task_metrics == METRICS and record.metric == PERPLEXITY
    assert record.metric_of("validation/perplexity").better == "lower"
    assert record.metric_of("seconds").better is None


def test_verdicts_call_less_perplexity_better_and_more_worse(root):
    rows = {row.name: row for row in rows_of(read_contents(root))}
    worse, better = rows["PTQ w4a4"].verdicts["float"], rows["QAT w4a4"].verdicts["ptq"]
    assert (worse.kind, better.kind) == ("worse", "better")
    assert worse.text.startswith("PTQ w4a4 is worse than float by 1.49 over 4 seeds")
    assert better.text.startswith("QAT w4a4 is better than PTQ w4a4 by 0.9")
    equal = rows["PTQ w8a8"].verdicts["float"]
    assert equal.kind == "equivalent" and "within 0.1: a rise of +0.0" in equal.text
    drop, gain = rows["QAT w4a4"].drop_from_control, rows["QAT w4a4"].gain_over_ptq
    assert drop is not None and drop.mean == pytest.approx(0.6, abs=0.03)
    assert gain is not None and gain.mean == pytest.approx(1.0, abs=0.03)
    strict = {row.name: row for row in rows_of(read_contents(root), margin=0.001)}
    assert strict["PTQ w8a8"].verdicts["float"].kind != "equivalent"


def test_the_tables_say_so(root):
    text = (root / "report" / "table.md").read_text()
    assert "| perplexity | rise / float | rise / control | gain / PTQ |" in text
    assert "Lower is better of perplexity." in text and "equivalent within 0.1," in text
    table = pd.read_csv(root / "report" / "table.csv")
    assert set(table["better"]) == {"lower"}
    assert table.loc[table["arm"] == "ptq", "drop_from_float"].tolist() == pytest.approx([0.02, 1.5], abs=0.03)
    assert min(table["score_low"].tolist()) >= 1


def test_the_page_shows_the_front_the_axis_and_the_columns_its_way(page, data):
    labels = [data["points"][i]["label"] for i in data["fronts"]["size"]]
    assert labels == ["QAT w4a4", "PTQ w8a8", "control"]
    assert (data["metric"], data["axis"]) == ("perplexity", "perplexity (lower is better)")
    assert (data["range"], data["decimals"]) == ([1.0, None], None)
    better = {column["name"]: column.get("better") for column in data["trials"]["columns"]}
    assert {name: better[name] for name in ("perplexity", "bits_per_byte, bits", "top1")} == {
        "perplexity": "lower",
        "bits_per_byte, bits": "lower",
        "top1": "higher",
    }
    assert "rise / float" in page and "drop / float" not in page and "is worse than float by 1.49" in page


def test_pictures_are_made(root):
    names = {path.name for path in (root / "report").glob("*.png")}
    assert {"recipes.png", "size.png"} <= names


def test_the_kept_table_has_the_values_as_they_were_measured(root, tmp_path):
    file = tmp_path / "kept.csv"
    columns = ["--metric", "perplexity", "--metric", "bits=bits_per_byte"]
    done = CliRunner().invoke(app, ["keep", str(root), str(file), *columns])
    assert done.exit_code == 0, done.output
    kept, frame = pd.read_csv(file), load(root)
    assert kept["perplexity"].tolist() == pytest.approx(frame["metric.perplexity"].tolist(), abs=1e-5)
    assert kept["bits"].iloc[0] == 1.25
    assert set(frame["main_metric_better"]) == {"lower"} and set(frame["main_metric"]) == {"perplexity"}
