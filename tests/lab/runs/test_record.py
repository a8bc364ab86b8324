"""Records on disk: whole or not there, damaged ones named, earlier ones intact."""

import errno
import json
import os

import pytest

from qat.fileio import refusal, write_atomically
from qat.lab.experiment.config import ExperimentConfig, lineage, override
from qat.lab.runs.files import write_sealed
from qat.lab.runs.manifest import cpu_features, manifest, revision
from qat.lab.runs.record import RECORD_FILE, Record, read_record, write_record
from qat.tasks.classification import METRICS
from qat.tasks.metric import fraction
from qat.train import TrainConfig

CONFIG = ExperimentConfig(
    name="a", model="cnn", data="digits", train=TrainConfig(steps=10), finetune=TrainConfig(steps=5)
)


def record(**changes) -> Record:
    """A record with some fields changed."""
    fields = {
        "trial": "a-1",
        "labels": {"arm": "float", "seed": "0"},
        "arm": "float",
        "recipe": None,
        "seed": 0,
        "lineage": lineage(CONFIG),
        "task_metrics": METRICS,
        "metrics": {"accuracy": 0.5},
        "examples": 4,
        "size_bytes": 100,
        "timings": {"seconds": 1.5},
    }
    return Record(**{**fields, **changes})


def test_a_record_reads_back_as_it_was_written(tmp_path):
    write_record(tmp_path, record())
    assert read_record(tmp_path) == record()
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


def test_a_folder_without_a_record_is_not_finished(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "missing") is None


@pytest.mark.parametrize("part", [0, 1, 10, 200], ids=lambda n: f"{n} characters")
def test_a_truncated_record_is_named_with_a_remedy(tmp_path, part):
    write_record(tmp_path, record())
    path = tmp_path / RECORD_FILE
    path.write_text(path.read_text()[:part])
    with pytest.raises(ValueError, match="is damaged") as caught:
        read_record(tmp_path)
    assert str(path) in str(caught.value)
    assert "Run the sweep again" in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe\x00", b"[]", b'{"trial": 3}', b"null"],
    ids=["not text", "a list", "wrong fields", "null"],
)
def test_a_record_edited_into_nonsense_is_damaged(tmp_path, damage):
    (tmp_path / RECORD_FILE).write_bytes(damage)
    with pytest.raises(ValueError, match="is damaged"):
        read_record(tmp_path)


def test_a_record_of_a_newer_schema_says_so(tmp_path):
    write_record(tmp_path, record(schema_version=999))
    with pytest.raises(ValueError, match="newer qat"):
        read_record(tmp_path)


def test_an_unknown_field_of_a_record_is_ignored(tmp_path):
    write_record(tmp_path, record())
    path = tmp_path / RECORD_FILE
    write_sealed(path, {**json.loads(path.read_text()), "added_later": 1})
    assert read_record(tmp_path) == record()


VERSION_1 = """{"schema_version": 1, "trial": "a-1", "labels": {"arm": "ptq w8a8", "seed": "seed 0"}, "arm": "ptq",
"recipe": "w8a8", "seed": 0, "lineage": {"float_stage": "0f", "control": "c0", "group": "aa"},
"metrics": {"accuracy": 0.5, "cross_entropy": 1.25}, "examples": 4, "size_bytes": 100, "seconds": 1.5}"""


def test_fields_by_their_earlier_names_are_still_read(tmp_path):
    now = record(high_bit_layers=("stem", "head"), provenance="calibrated on 8 batches")
    content = json.loads(now.model_dump_json())
    content["raised"], content["did"] = content.pop("high_bit_layers"), content.pop("provenance")
    write_sealed(tmp_path / RECORD_FILE, content)
    assert read_record(tmp_path) == now


def test_a_record_of_the_first_schema_is_still_read(tmp_path):
    (tmp_path / RECORD_FILE).write_text(VERSION_1)
    found = read_record(tmp_path)
    assert found is not None
    assert (found.metrics, found.timings, found.metric.name) == (
        {"accuracy": 0.5, "cross_entropy": 1.25},
        {"seconds": 1.5},
        "accuracy",
    )
    assert (found.key, found.stages) == ("", {})


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, step):
    write_record(tmp_path, record())

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_record(tmp_path, record(timings={"seconds": 9.0}))
    monkeypatch.undo()
    assert read_record(tmp_path) == record()
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]
    assert "Finished trials are safe" in (refusal(caught.value) or "")


def test_a_full_disk_is_recognised_inside_other_libraries_errors():
    inner = ValueError("RESOURCE_EXHAUSTED: Error writing file [OS error 28: No space left on device]")
    outer = RuntimeError("checkpoint failed")
    outer.__cause__ = inner
    assert "No space left" in (refusal(outer) or "")


def test_a_forbidden_file_is_named():
    message = refusal(PermissionError(errno.EACCES, "Permission denied", "/data/mnist")) or ""
    assert "No permission for '/data/mnist'" in message


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError(errno.ENOENT, "No such file")])
def test_other_errors_are_no_refusal_of_the_disk(error):
    assert refusal(error) is None


def test_writing_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "a long text")
    write_atomically(path, "short")
    assert path.read_text() == "short"


def test_others_may_read_a_file_as_they_may_read_any_new_one(tmp_path):
    write_atomically(tmp_path / "ours", "text")
    (tmp_path / "any").write_text("text")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_lineage_tells_what_can_be_compared():
    first, other_seed = lineage(CONFIG), lineage(override(CONFIG, {"seed": 1}))
    assert first.group == other_seed.group
    assert first.float_stage != other_seed.float_stage
    ptq = lineage(override(CONFIG, {"arm": "ptq", "recipe": "w8a8"}))
    assert (ptq.float_stage, ptq.control) == (first.float_stage, first.control)
    assert ptq.group != first.group
    longer = lineage(override(CONFIG, {"finetune.steps": 6}))
    assert longer.float_stage == first.float_stage
    assert longer.control != first.control
    assert lineage(override(CONFIG, {"name": "b"})) == first


def test_a_manifest_is_plain_and_complete():
    found = json.loads(json.dumps(manifest(3, "abc")))
    assert found["versions"]["jax"]
    assert (found["seed"], found["data_fingerprint"]) == (3, "abc")
    assert found["device"]["kinds"]


def test_cpu_features_are_read_from_the_system(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert cpu_features(info) == ["avx2", "avx512_vnni"]
    assert cpu_features(tmp_path / "missing") == []


def test_a_folder_outside_git_has_no_revision(tmp_path):
    assert revision(tmp_path) is None


@pytest.mark.parametrize(
    ("metric", "numbers", "found"),
    [
        ("accuracy", ("cross_entropy", "f1/cat"), {"accuracy": "higher", "cross_entropy": "lower", "f1": "higher"}),
        ("perplexity", (), {"perplexity": "lower"}),
        ("map50_95", ("deeppcb_threshold",), {"map50_95": "higher", "f33_threshold": None}),
        ("psnr_db", ("accuracy",), {"psnr_db": "higher", "accuracy": "higher"}),
    ],
)
def test_a_record_of_the_second_schema_gets_its_metrics_by_their_exact_names(tmp_path, metric, numbers, found):
    write_record(tmp_path, record(metrics=dict.fromkeys((metric, *numbers), 0.5)))
    old = json.loads((tmp_path / RECORD_FILE).read_text())
    del old["task_metrics"]
    write_sealed(tmp_path / RECORD_FILE, {**old, "schema_version": 2, "metric": metric})
    read = read_record(tmp_path)
    assert read is not None
    assert {one.name: one.better for one in read.task_metrics} == found
    assert (read.metric.name, read.metrics[read.metric.name]) == (metric, 0.5)
    assert (read.metric.unit, read.metric.margin) == (("%", 0.3) if metric in ("accuracy", "map50_95") else ("", None))


def test_a_record_without_a_main_metric_is_damaged(tmp_path):
    write_record(tmp_path, record())
    content = json.loads((tmp_path / RECORD_FILE).read_text())
    for metrics in ([], [{"name": "accuracy", "better": None}], [{"name": "accuracy", "better": "more"}]):
        write_sealed(tmp_path / RECORD_FILE, {**content, "task_metrics": metrics})
        with pytest.raises(ValueError, match=r"is damaged \(task_metrics"):
            read_record(tmp_path)


def test_a_record_of_before_the_published_criterion_gets_the_names_of_today(tmp_path):
    metrics = {"map50_95": 0.7, "deeppcb_ap": 0.9, "deeppcb_ap/open": 0.8, "validation/deeppcb_f": 0.6}
    old = (fraction("map50_95"), fraction("deeppcb_ap"), fraction("deeppcb_f"))
    write_record(tmp_path, record(metrics=metrics, task_metrics=old))
    read = read_record(tmp_path)
    assert read is not None
    assert read.metrics == {"map50_95": 0.7, "map33": 0.9, "map33/open": 0.8, "validation/f33": 0.6}
    assert read.task_metrics == (fraction("map50_95"), fraction("map33"), fraction("f33"))
    write_record(tmp_path, record(metrics={**metrics, "map33": 0.95}, task_metrics=(*old, fraction("map33"))))
    read = read_record(tmp_path)
    assert read is not None and (read.metrics["deeppcb_ap"], read.metrics["map33"]) == (0.9, 0.95)
