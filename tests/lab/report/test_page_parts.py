"""What a report is made of: thinned curves, histograms in few signs, fronts, provenance, text that stays text."""

import base64
import gzip
import json
import math

import numpy as np
import pytest
from run_folders import ARMS, make_runs

from qat.lab.report import write as files_module
from qat.lab.report.contents import read_contents
from qat.lab.report.html import curves as curves_module
from qat.lab.report.html import payload as details_module
from qat.lab.report.html.curves import POINTS, read_curves, short
from qat.lab.report.html.layers import HEIGHTS, heights, read_layers
from qat.lab.report.html.markup import Html, tag
from qat.lab.report.html.payload import details, embedded, fitting, packed
from qat.lab.report.html.trials import group_of, provenance
from qat.lab.report.pareto import front, points
from qat.lab.report.write import rows_of, title_of, write_report


def test_curves_are_thinned_to_a_bounded_number_of_points_with_both_ends(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"stage": "float", "step": i, "loss": 1 / (i + 3)}) for i in range(1000)]
    path.write_text("\n".join(lines))
    (curve,) = read_curves(tmp_path)
    assert (len(curve.steps), curve.steps[0], curve.steps[-1]) == (POINTS, 0, 999)
    assert dict(curve.values)["loss"][-1] == pytest.approx(1 / 1002, rel=1e-3)


@pytest.mark.parametrize("last", ['{"stage": "qat", "st', "[1, 2]", '{"stage": "qat"}', "\ufffd"])
def test_a_line_that_is_not_whole_is_passed_over(tmp_path, last):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "qat", "step": 1, "loss": 2.0}\n{"stage": "qat", "step": 2, "loss": NaN}\n' + last)
    (curve,) = read_curves(tmp_path)
    assert (curve.steps, dict(curve.values)) == ((1, 2), {"loss": (2, None)})


def test_no_more_than_a_bounded_number_of_lines_is_parsed(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"stage": "qat", "step": i, "loss": 1.0}) + "\n" for i in range(10_000)))
    seen = []
    monkeypatch.setattr(curves_module, "entries", lambda lines: seen.append(len(list(lines))) or [])
    assert read_curves(tmp_path) == ()
    assert 0 < sum(seen) <= curves_module.LINES


def test_stages_that_come_in_turns_are_one_curve_each(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"stage": stage, "step": step, "loss": step} for step in (1, 2, 3) for stage in ("a", "b")]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert [(curve.stage, curve.steps) for curve in read_curves(tmp_path)] == [("a", (1, 2, 3)), ("b", (1, 2, 3))]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.123456, 0.1235),
        (3.0, 3),
        (1e300, 1e300),
        (7, 7),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        ("1", None),
    ],
)
def test_a_short_number_is_what_json_can_say(value, expected):
    assert short(value) == expected


def test_heights_tell_counts_within_nine_percent_and_none_from_few():
    counts = np.array([[0, 1, 2, 50, 999, 123_456, 1_000_000]])
    (signs,) = heights(counts)
    top = math.log1p(1_000_000)
    told = [math.expm1(HEIGHTS.index(sign) / (len(HEIGHTS) - 1) * top) for sign in signs]
    assert told[0] == 0
    np.testing.assert_allclose(np.add(told, 1), counts[0] + 1, rtol=0.09)


def histogram(edges, counts):
    return {"side": "lhs", "kind": "weight", "histogram": {"edges": edges, "counts": counts}}


def test_uneven_bins_are_spread_evenly(tmp_path):
    path = tmp_path / "layers.json"
    operands = [histogram([0, 1, 4], [3, 3]), histogram([0, 2, 4], [4, 2])]
    path.write_text(json.dumps({"sites": [{"id": "a", "operands": operands}]}))
    (site,) = read_layers(tmp_path)
    assert site.operands[0].counts == site.operands[1].counts


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {"edges": [0, 1]},
        {"edges": [0, 1], "counts": []},
        {"edges": "ab", "counts": [1]},
        {"edges": [0, None], "counts": [1]},
    ],
    ids=["none", "no counts", "too few", "text", "no number"],
)
def test_a_histogram_that_is_not_whole_leaves_the_others(tmp_path, broken):
    path = tmp_path / "layers.json"
    operands = [{"histogram": broken}, histogram([0.0, 1.0, 2.0], [1, 5])]
    path.write_text(json.dumps({"sites": [{"id": "a", "output_sqnr_db": None, "operands": operands}]}))
    (site,) = read_layers(tmp_path)
    assert site.operands[0].counts == ""
    assert (site.operands[1].first, site.operands[1].last, len(site.operands[1].counts)) == (0, 2, 2)


def test_further_numbers_of_an_operand_go_along_by_their_name(tmp_path):
    operand = {"side": "rhs", "kind": "weight", "key": "a", "grid": "int4", "oscillating": 0.25, "words": "x"}
    (tmp_path / "layers.json").write_text(json.dumps({"sites": [{"id": "a", "operands": [operand]}]}))
    assert read_layers(tmp_path)[0].operands[0].more == (("oscillating", 0.25),)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sites": 3}', '{"sites": [4]}'])
def test_damaged_layers_are_none(tmp_path, text):
    (tmp_path / "layers.json").write_text(text)
    assert read_layers(tmp_path) == ()


def test_the_front_holds_what_no_other_beats():
    points = [(4.0, 0.9), (1.0, 0.5), (2.0, 0.5), (2.0, 0.8), (3.0, 0.7), (4.0, 0.9), (1.0, 0.4)]
    assert front(points) == [1, 3, 0, 5]
    assert front([]) == []


def test_details_fit_their_budget_and_lose_later_seeds_first(tmp_path, monkeypatch):
    make_runs(tmp_path, 30, sites=3)
    contents = read_contents(tmp_path)
    groups = group_of(contents, [])
    whole = details(contents, groups)
    assert len(whole.bins) == len(whole.layers) == 24
    assert whole.left_out == {"training curves": 0, "errors by layer": 0, "histograms": 0}
    size = len(json.dumps(whole.bins, separators=(",", ":")))
    monkeypatch.setattr(details_module, "BIN_BUDGET", size // 2)
    less = details(contents, groups)
    assert less.left_out["histograms"] == 24 - len(less.bins) > 0
    seeds = [int(list(contents.trials.values())[i]["seed"]) for i in less.bins]
    assert seeds == sorted(seeds) and seeds.count(0) == 8


def test_stages_that_trials_share_are_held_once(tmp_path):
    make_runs(tmp_path, 10, seeds=1)
    contents = read_contents(tmp_path)
    found = details(contents, group_of(contents, []))
    arms = [arm for arm, _ in ARMS]
    assert len(found.series) == 1 + arms.count("qat") + arms.count("control")


def test_provenance_tells_what_differs_and_warns_of_what_matters(tmp_path):
    ids = make_runs(tmp_path, 4, seeds=2, other_device=True)
    found = provenance(read_contents(tmp_path).manifests)
    assert found.common["versions.jax"] == "0.12.1"
    different = {one.name: one.trials for one in found.different}
    assert different["device.kinds"] == {"NVIDIA H200": (ids[0],), "cpu": tuple(ids[1:])}
    assert set(different) == {"device.backend", "device.kinds"}
    assert len(found.warnings) == 1 and "devices" in found.warnings[0]


def test_other_numbers_of_cores_or_threads_are_told_as_such():
    cpus = ({"count": 2, "usable": 2, "threads": 2}, {"count": 2, "usable": 1, "threads": 1})
    found = provenance({str(i): {"cpu": cpu} for i, cpu in enumerate(cpus)})
    assert [warning.split(":")[0] for warning in found.warnings] == [
        "Trials ran under different numbers of usable cores",
        "Trials ran under different numbers of threads",
    ]
    assert provenance({"old": {"cpu": {"count": 2}}, "new": {"cpu": {"count": 2}}}).warnings == ()


def test_a_change_of_the_data_alone_is_no_warning():
    found = provenance({"a": {"data_fingerprint": "1", "seed": 0}, "b": {"data_fingerprint": "2", "seed": 1}})
    assert found.warnings == ()


@pytest.mark.parametrize("text", ["</script>", "<!--", "&amp;", "a\u2028b", 'x"y'])
def test_embedded_json_holds_no_markup_and_reads_back(text):
    made = embedded({"label": text})
    assert not set("<>&") & set(made)
    assert json.loads(made) == {"label": text}


def test_packed_json_reads_back_and_is_the_same_each_time():
    value = {"a": [1, None, "</script>"]}
    assert json.loads(gzip.decompress(base64.b64decode(packed(value)))) == value
    assert packed(value) == packed(value)


def test_what_does_not_fit_is_left_out_from_the_end():
    assert fitting([(1, "aa"), (2, "bb"), (3, "c")], 9) == {1: "aa", 2: "bb"}


def test_markup_escapes_all_that_was_not_made_as_markup():
    assert tag("p", "<b>", tag("i", "&"), title='"', hidden=True, open=False) == (
        '<p title="&quot;" hidden>&lt;b&gt;<i>&amp;</i></p>'
    )
    assert tag("p", Html("<b></b>")) == "<p><b></b></p>"


def test_the_page_tells_failures_with_their_log_and_what_is_damaged(study):
    contents, made = study.contents, study.text
    ids = list(contents.trials)
    assert [contents.state(name) for name in ids[-4:]] == ["finished", "failed", "damaged", "open"]
    assert "stages/float-1234" in made and "No space &lt;left&gt;." in made and "step 120: loss 4.700" in made
    assert f"trials/{ids[-2]}/record.json" in made and str(contents.root) not in made
    assert title_of(contents) == "fake study (17 of 20 trials finished, 1 failed, 1 damaged)"
    assert made.count("plotly.js v") == 1


def test_the_report_is_a_page_tables_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "page", lambda contents, rows: f"{contents.name}: {len(rows)} arms")
    make_runs(tmp_path, 12, seeds=1, variants=["$\\frac{1}{", "b"], name="a $\\bad{ name")
    contents = read_contents(tmp_path)
    rows = rows_of(contents)
    paths = write_report(contents, rows)
    names = ["index.html", "table.csv", "table.md", "recipes.png", "size.png", "latency.png"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"report/{name}" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[3:])
    assert paths[0].read_text() == f"a $\\bad{{ name: {len(rows)} arms"


@pytest.mark.slow
def test_numbers_that_no_axis_can_show_leave_the_report_whole(tmp_path):
    ids = make_runs(tmp_path, 10, seeds=1, name="half a sign \ud800")
    for name, change in ((ids[0], {"latency_ms": math.nan}), (ids[2], {"latency_ms": 0.0}), (ids[3], {})):
        path = tmp_path / "trials" / name / "record.json"
        record = json.loads(path.read_text())
        record["timings"] = {"seconds": math.inf, **change}
        path.write_text(json.dumps({**record, "size_bytes": 0}))
    contents = read_contents(tmp_path)
    found = points(rows_of(contents))
    assert [point.latency is None for point in found] == [point.size is None for point in found]
    assert [point.label for point in found if point.size is None] == ["float", "PTQ w8a8", "QAT w8a8"]
    assert len(write_report(contents, rows_of(contents))) == 6


def test_the_report_of_an_empty_study_has_no_pictures(tmp_path):
    make_runs(tmp_path, 3, unfinished=3)
    contents = read_contents(tmp_path)
    assert [path.name for path in write_report(contents, rows_of(contents))] == ["index.html", "table.csv", "table.md"]
