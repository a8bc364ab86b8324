"""Results as pandas frames: tidy, whole, and with what is damaged named."""

import json

import pandas as pd
import pytest
from records import make_record, write_study

import qat
from qat.lab.runs import curves, histograms, keep, layers, load


def write_lines(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text(text)


RECORDS = [
    make_record("float", None, 0, 0.9, timings={"seconds": 1.0, "latency_ms": 4.0}),
    make_record("ptq", "w8a8", 0, 0.8),
    make_record("qat", "w8a8", 1, 0.85, metrics={"accuracy": 0.85, "cross_entropy": 0.4}),
]


def test_a_row_is_a_trial_with_all_that_its_record_and_config_say(tmp_path):
    frame = load(write_study(tmp_path / "runs", RECORDS))
    assert frame["trial"].tolist() == [record.trial for record in RECORDS]
    last = frame.iloc[-1]
    expected = {
        "study": "s", "arm": "qat", "recipe": "w8a8", "seed": 1, "label.arm": "qat w8a8", "label.seed": "seed 1",
        "main_metric": "accuracy", "main_metric_better": "higher",
        "metric.accuracy": 0.85, "metric.cross_entropy": 0.4, "examples": 100,
        "size_bytes": 100, "timing.seconds": 1.0, "config.train.learning_rate": 0.2, "config.finetune.steps": 50,
        "lineage.group": "a qat w8a8", "lineage.float_stage": "float a 1", "lineage.control": "control a 1",
        "schema": 3, "key": "", "folder": str(tmp_path / "runs" / "trials" / RECORDS[-1].trial),
    }  # fmt: skip
    assert {name: last[name] for name in expected} == expected
    assert frame["recipe"].isna().tolist() == [True, False, False]
    assert frame["metric.cross_entropy"].isna().tolist() == [True, True, False]
    assert frame["timing.latency_ms"].tolist()[0] == 4.0
    assert frame.attrs == {"finished": 3, "failed": 0, "unfinished": 0, "damaged": []}


def test_settings_that_are_the_same_in_all_trials_are_left_out(tmp_path):
    frame = load(write_study(tmp_path / "runs", RECORDS))
    named = [name for name in frame if name.startswith("config.")]
    assert sorted(named) == ["config.finetune.steps", "config.train.learning_rate"]


def test_numbers_are_numbers(tmp_path):
    frame = load(write_study(tmp_path / "runs", RECORDS))
    for name in ("seed", "metric.accuracy", "size_bytes", "timing.seconds", "config.train.learning_rate", "schema"):
        assert pd.api.types.is_numeric_dtype(frame[name]), name
    assert frame.loc[frame["arm"] == "qat", "metric.accuracy"].tolist() == [0.85]


def test_a_folder_of_studies_is_one_frame(tmp_path):
    write_study(tmp_path / "one", RECORDS[:2], "first")
    write_study(tmp_path / "two", RECORDS[2:], "second", unfinished=["open"])
    write_study(tmp_path / "three", RECORDS[2:], "second")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("no study")
    frame = load(tmp_path)
    assert frame["study"].tolist() == ["first", "first", "second (three)", "second (two)"]
    assert (frame.attrs["finished"], frame.attrs["unfinished"]) == (4, 1)
    assert len(load(str(tmp_path))) == 4


def test_what_is_not_finished_is_counted(tmp_path):
    root = write_study(tmp_path / "runs", RECORDS, unfinished=["open", "failed", "started"])
    (root / "trials" / "started").mkdir()
    failed = root / "trials" / "failed"
    failed.mkdir()
    (failed / "failure.json").write_text("{}")
    counts = load(root).attrs
    assert (counts["finished"], counts["failed"], counts["unfinished"], counts["damaged"]) == (3, 1, 2, [])


def test_what_is_damaged_is_named_and_the_rest_is_read(tmp_path):
    root = write_study(tmp_path / "runs", RECORDS)
    record, config = (root / "trials" / RECORDS[i].trial / name for i, name in ((0, "record.json"), (1, "config.json")))
    record.write_text(record.read_text()[:40])
    config.write_bytes(b"\xff\xfe")
    frame = load(root)
    assert frame["trial"].tolist() == [RECORDS[1].trial, RECORDS[2].trial]
    assert frame.attrs["finished"] == 2
    assert [str(path) in line for path, line in zip((record, config), frame.attrs["damaged"], strict=True)] == [
        True
    ] * 2
    assert not any(name.startswith("config.") for name in frame)  # the only config left differs from none


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_a_config_that_is_none_is_damaged(tmp_path, text):
    root = write_study(tmp_path / "runs", RECORDS)
    (root / "trials" / RECORDS[0].trial / "config.json").write_text(text)
    frame = load(root)
    assert len(frame) == 3
    assert "config.json' is damaged" in frame.attrs["damaged"][0]


def test_a_damaged_study_is_an_error_alone_and_passed_over_among_others(tmp_path):
    write_study(tmp_path / "whole", RECORDS)
    broken = write_study(tmp_path / "broken", RECORDS)
    (broken / "study.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        load(broken)
    frame = load(tmp_path)
    assert len(frame) == 3
    assert "study.json' is damaged" in frame.attrs["damaged"][0]


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_a_path_without_a_study_says_what_is_expected(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for read in (load, curves, layers, histograms):
        with pytest.raises(ValueError, match=r"`path` must be the folder of a study(.|\n)*qat sweep"):
            read(tmp_path / name)


def test_a_study_without_finished_trials_is_an_empty_frame(tmp_path):
    root = write_study(tmp_path / "runs", [], unfinished=["open"])
    frame = load(root)
    assert len(frame) == 0 and {"study", "trial", "arm", "seed", "key"} <= set(frame)
    assert frame.attrs["unfinished"] == 1
    assert len(curves(root)) == len(layers(root)) == len(histograms(root)) == 0


def test_records_of_the_first_schema_are_read(tmp_path):
    root = write_study(tmp_path / "runs", RECORDS[:1])
    place = root / "trials" / RECORDS[0].trial
    old = json.loads((place / "record.json").read_text())
    for name in ("key", "stages", "task_metrics", "schema_version", "timings", "files", "digest"):
        del old[name]
    (place / "record.json").write_text(json.dumps({**old, "schema_version": 1, "seconds": 7.0}))
    (root / "study.json").write_text(json.dumps({"name": "s", "trials": [RECORDS[0].trial]}))
    (place / "config.json").unlink()
    assert load(root)["timing.seconds"].tolist() == [7.0]


def test_curves_are_one_row_a_number(tmp_path):
    root = write_study(tmp_path / "runs", RECORDS[:1], unfinished=["open"])
    lines = [{"stage": "float", "step": step, "loss": 1.0 / step, "accuracy": 0.5} for step in (1, 2)]
    write_lines(root / "trials" / RECORDS[0].trial, "".join(json.dumps(line) + "\n" for line in lines))
    write_lines(root / "trials" / "open", '{"stage": "float", "step": 1, "loss": NaN}\n{"stage": "float", "st')
    frame = curves(root)
    assert list(frame) == ["study", "trial", "stage", "step", "metric", "value"]
    assert frame["value"].tolist()[:4] == [1.0, 0.5, 0.5, 0.5]
    assert frame["trial"].tolist() == [RECORDS[0].trial] * 4 + ["open"]
    assert frame["value"].isna().tolist() == [False] * 4 + [True]
    assert frame.attrs["damaged"] == []
    losses = frame[frame["metric"] == "loss"].merge(load(root), on=["study", "trial"])
    assert losses["label.arm"].tolist() == ["float", "float"]


def test_a_damaged_line_of_a_curve_is_named_and_passed_over(tmp_path):
    root = write_study(tmp_path / "runs", [], unfinished=["open"])
    text = '{"stage": "a", "step": 1, "loss": 1}\n{"stage": "a", "st\n3\n{"stage": "a", "step": 2, "loss": 2}'
    write_lines(root / "trials" / "open", text)
    frame = curves(root)
    assert frame["value"].tolist() == [1, 2]
    path = str(root / "trials" / "open" / "metrics.jsonl")
    assert frame.attrs["damaged"] == [f"{path!r} is damaged (line 2).", f"{path!r} is damaged (line 3)."]


def test_layers_are_one_row_an_operand_and_histograms_one_a_bin(tmp_path):
    root = write_study(tmp_path / "runs", RECORDS)
    operand = {"key": "k", "side": "lhs", "kind": "activation", "bits": 8, "grid": "affine", "low": -1.0, "high": 1.0}
    operand |= {"clipped": 0.01, "sqnr_db": 40.0, "histogram": {"edges": [0.0, 1.0, 2.0], "counts": [3, 4]}}
    weight = {**operand, "side": "rhs", "kind": "weight", "histogram": None}
    sites = [
        {"id": "a:dot:0", "path": "a", "op": "dot", "rule": ".*", "reason": None, "output_sqnr_db": 30.0}
        | {"operands": [operand, weight]},
        {"id": "b:dot:0", "path": "b", "op": "dot", "rule": None, "reason": "kept in float", "operands": []},
    ]
    (root / "trials" / RECORDS[1].trial / "layers.json").write_text(json.dumps({"sites": sites}))
    (root / "trials" / RECORDS[2].trial / "layers.json").write_text('{"sites": [{"id"')
    found, bins = layers(root), histograms(root)
    assert found["site"].tolist() == ["a:dot:0", "a:dot:0", "b:dot:0"]
    assert found["side"].tolist()[:2] == ["lhs", "rhs"] and found["side"].isna().tolist()[2]
    assert found.iloc[0][["kind", "bits", "clipped", "sqnr_db", "output_sqnr_db"]].tolist() == [
        "activation",
        8,
        0.01,
        40.0,
        30.0,
    ]
    assert found.iloc[2]["reason"] == "kept in float"
    assert bins[["site", "side", "low", "high", "count"]].values.tolist() == [
        ["a:dot:0", "lhs", 0.0, 1.0, 3],
        ["a:dot:0", "lhs", 1.0, 2.0, 4],
    ]
    assert "layers.json' is damaged" in found.attrs["damaged"][0]
    assert found.attrs == bins.attrs


def test_results_are_reached_from_the_package(tmp_path):
    assert len(qat.lab.runs.load(write_study(tmp_path / "runs", RECORDS))) == 3


def test_the_kept_table_has_a_row_for_each_arm_and_seed(tmp_path):
    lineage = {"float_stage": "one", "control": None, "group": "g"}
    timings = {"seconds": 1.0, "latency_ms": 2.0, "float_latency_ms": 8.0}
    records = [
        make_record("float", None, 0, 0.9, lineage=lineage),
        make_record("ptq", "w4a4(observer='mse')", 1, 0.123456789, lineage=lineage, timings=timings),
    ]
    file = tmp_path / "kept" / "table.csv"
    keep(write_study(tmp_path / "runs", records), file, ["accuracy"])
    assert file.read_text().splitlines() == [
        "arm,recipe,seed,accuracy,accuracy_drop_from_float,size_bytes,float_size_bytes,"
        "latency_ratio,latency_ratio_low,latency_ratio_high",
        "float,,0,0.9,,400,400,,,",
        "ptq w4a4(observer='mse'),w4a4(observer='mse'),1,0.12346,0.77654,100,400,0.25,0.25,0.25",
    ]


def test_the_kept_table_tells_drops_from_float_and_control(tmp_path):
    scores = (("float", None, 0.9), ("control", None, 0.92), ("qat", "w4a4", 0.85), ("ptq", "w4a4", 0.91))
    records = [make_record(*one[:2], seed, one[2] + 0.01 * seed) for seed in (0, 1) for one in scores]
    kept = keep(write_study(tmp_path / "runs", records), tmp_path / "table.csv", ["acc=accuracy"])
    assert kept["acc_drop_from_float"].fillna(9).tolist() == pytest.approx([9, -0.02, 0.05, -0.01] * 2)
    assert kept["acc_drop_from_control"].fillna(9).tolist() == pytest.approx([0.02, 9, 0.07, 0.01] * 2)


def test_the_kept_table_tells_the_bits_of_layers_where_trials_have_them(tmp_path):
    records = [
        make_record("float", None, 0, 0.9),
        make_record("ptq", "w4a4", 0, 0.8, operations={"8x8": 0.25, "4x4": 0.75}, high_bit_layers=("a/b", "c")),
    ]
    runs = write_study(tmp_path / "runs", records)
    kept = keep(runs, tmp_path / "table.csv", ["accuracy"])
    assert kept["operations"].tolist() == ["", "4x4=0.75 8x8=0.25"]
    assert kept["high_bit_layers"].tolist() == ["", "a/b c"]
    frame = load(runs)
    assert frame["operations.8x8"].tolist()[1] == 0.25 and frame["operations.8x8"].isna().tolist() == [True, False]


def test_the_kept_table_names_arms_by_their_labels_and_metrics_as_asked(tmp_path):
    records = [
        make_record("float", None, 0, 0.9, labels={"trial": "float"}),
        make_record("qat", "w4a4", 0, 0.8, labels={"arm": "QAT, taught", "seed": "0"}),
    ]
    kept = keep(write_study(tmp_path / "runs", records), tmp_path / "table.csv", ["f=accuracy"])
    assert kept[["arm", "recipe", "f"]].fillna("").values.tolist() == [["float", "", 0.9], ["QAT, taught", "w4a4", 0.8]]


def test_a_table_is_kept_of_whole_studies_and_known_metrics_alone(tmp_path):
    runs = write_study(tmp_path / "runs", RECORDS, unfinished=("open",))
    with pytest.raises(ValueError, match="`runs` must be a finished study, but 1 of its trials are not"):
        keep(runs, tmp_path / "table.csv", ["accuracy"])
    with pytest.raises(ValueError, match=r"no trial has f1\. Known: accuracy, cross_entropy"):
        keep(write_study(tmp_path / "whole", RECORDS), tmp_path / "table.csv", ["f1"])
    assert not (tmp_path / "table.csv").exists()
