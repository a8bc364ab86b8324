"""A trial for sinks to tell of, and readers of what they write."""

import json
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies import BASE

from qat.lab.experiment.config import lineage
from qat.lab.runs.record import Record
from qat.lab.sinks import Origin
from qat.tasks.classification import METRICS

LABELS = {"arm": "ptq w8a8", "seed": "seed 0"}
CONFIG = BASE.model_copy(update={"arm": "ptq", "recipe": "w8a8"})
POINTS = [("float", step, {"loss": 1 / step, "accuracy": step / 10}) for step in (1, 2, 3, 4)]
OPERAND = {
    "key": "stem/kernel",
    "side": "rhs",
    "kind": "weight",
    "bits": 8,
    "grid": "symmetric",
    "low": -1.0,
    "high": 1.0,
}
SITE = {
    "id": "stem:conv:0",
    "path": "stem",
    "op": "conv",
    "rule": ".*",
    "reason": None,
    "operands": [{**OPERAND, "clipped": 0.0, "sqnr_db": 41.5, "histogram": {"edges": [0.0, 1.0], "counts": [1]}}],
    "output_sqnr_db": None,
}


def origin_in(root):
    return Origin("study", "base-ptq-1234", "k1", LABELS, CONFIG, root)


def finished_folder(origin):
    """The trial's folder as a finished trial leaves it, its last line of metrics cut off."""
    place = origin.root / "trials" / origin.trial
    place.mkdir(parents=True)
    lines = [json.dumps({"stage": stage, "step": step, **values}) + "\n" for stage, step, values in POINTS]
    (place / "metrics.jsonl").write_text("".join(lines) + '{"stage": "float", "st')
    (place / "layers.json").write_text(json.dumps({"sites": [SITE]}))
    return place


def record():
    return Record(
        trial="base-ptq-1234",
        key="k1",
        labels=LABELS,
        arm="ptq",
        recipe="w8a8",
        seed=0,
        lineage=lineage(CONFIG),
        task_metrics=METRICS,
        metrics={"accuracy": 0.9},
        examples=10,
        size_bytes=400,
        timings={"seconds": 1.5},
    )


def offline_records(path):
    """What a file of an offline run holds: protocol buffers in a log of blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record as WandbRecord  # pyright: ignore[reportAttributeAccessIssue]

    data, offset, whole, found = path.read_bytes(), 7, b"", []
    while offset + 7 <= len(data):
        left = 32768 - offset % 32768
        if left < 7:
            offset += left
            continue
        _, length, kind = struct.unpack("<IHB", data[offset : offset + 7])
        whole += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):
            found.append(WandbRecord.FromString(whole))
            whole = b""
    return found


def ended_records(path):
    """The same once the run's end is in it: wandb's process writes it a moment after `finish` has returned."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = offline_records(path)
        if any(one.WhichOneof("record_type") == "exit" for one in found):
            return found
        time.sleep(0.01)
    raise AssertionError(f"{path} has no end")


@dataclass
class Offline:
    """An offline run: its description, the loss as (step, value), its last summary, its exit code, and its files."""

    run: Any
    curve: list[Any]
    summary: dict[str, Any]
    exit_code: int
    files: Path


def offline_runs(root):
    return [offline_run(path) for path in (root / "wandb").glob("offline-run-*/run-*.wandb")]


def offline_run(path):
    records = {}
    for one in ended_records(path):
        records.setdefault(one.WhichOneof("record_type"), []).append(one)
    rows = [values(one.history.item) for one in records.get("history", [])]
    curve = [(row["float/step"], row["float/loss"]) for row in rows if "float/loss" in row]
    summary = {k: v for one in records["summary"] for k, v in values(one.summary.update).items()}
    return Offline(records["run"][0].run, curve, summary, records["exit"][0].exit.exit_code, path.parent / "files")


def values(items):
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def events(root, trial):
    """The scalars of a trial as (tag, step, value), and all tags."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    (path,) = (root / "tensorboard" / trial).iterdir()
    data, offset, scalars, tags = path.read_bytes(), 0, [], []
    while offset < len(data):
        (length,) = struct.unpack("<Q", data[offset : offset + 8])
        event = Event.FromString(data[offset + 12 : offset + 12 + length])
        offset += length + 16
        for value in event.summary.value:
            tags.append(value.tag)
            if value.WhichOneof("value") == "simple_value":
                scalars.append((value.tag, event.step, value.simple_value))
    return scalars, tags
