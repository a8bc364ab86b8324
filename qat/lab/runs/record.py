"""The record of one trial on disk: `record.json`, written last, so that a folder that has it is finished."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from qat.lab.runs.files import Digests, digests_in, is_own, write_sealed
from qat.registry import parse_call
from qat.tasks.metric import Metric, check_metrics, find_metric, fraction

type Arm = Literal["float", "control", "ptq", "qat"]

RECORD_FILE = "record.json"
SCHEMA_VERSION = 3


class Lineage(BaseModel):
    """Digests of what a result depends on; equal ones were compared fairly.

    `float_stage` and `control` are those of the float model that the trial starts from, and of that model trained on;
    trials of one `group` differ in their seed only.
    """

    model_config = ConfigDict(frozen=True)

    float_stage: str
    control: str | None
    group: str


class Record(BaseModel):
    """The result of one trial.

    `key` is the digest of all that the outcome depends on (settings, code, data), `stages` those of the stages that it
    was made from, by kind. `metrics` are numbers on the test split, as the task measures them (fractions for
    accuracies); `task_metrics` say of those what they are, the main one first. `high_bit_layers` are the paths of the
    layers that got 8 bits for their sensitivity; `allocation` the bits that were chosen within a budget, with the
    `recipe` as data, the `chosen` and the `uniform` point and the `front`; `ptq` the accounts of post-training methods,
    each with the `method`, what it `changed` and `left`, its `figures` and its `seconds`; `operations` the share of
    multiplications by the bits of weights and activations, as `4x8`, and in float; `provenance` says in words how the
    model was quantized and trained. `exports` are the files for other runtimes, each with its `kind`, `file`, `bytes`
    and `notes`. `size_bytes` is that of the model's file, `threads` those of XLA in each stage and
    in the trial itself, as last digits depend on them, `timings` what depends on the machine: `seconds` of the trial,
    and where they were measured `latency_ms` of one call, `float_latency_ms` of the float model in the same run, the
    `latency_batch` of both, how many times `faster` the first is (median and quartiles, `faster_low` and `faster_high`,
    over `faster_parts` of the measurement), and on how many `cores`. `program` is the digest of what was compiled for
    the call: where it is the same, so is its time.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    trial: str
    key: str = ""
    labels: dict[str, str]
    arm: Arm
    recipe: str | None
    high_bit_layers: tuple[str, ...] = ()
    allocation: dict[str, Any] | None = None
    ptq: tuple[dict[str, Any], ...] = ()
    operations: dict[str, float] = {}
    provenance: str = ""
    seed: int
    lineage: Lineage
    stages: dict[str, str] = {}
    task_metrics: tuple[Metric, ...]
    metrics: dict[str, float]
    examples: int
    size_bytes: int
    exports: tuple[dict[str, Any], ...] = ()
    program: str = ""
    threads: dict[str, int] = {}
    how: dict[str, str] = {}
    timings: dict[str, float]

    @field_validator("recipe")
    @classmethod
    def _is_a_call(cls, recipe: str | None) -> str | None:
        if recipe is not None:
            parse_call(recipe)
        return recipe

    @field_validator("task_metrics")
    @classmethod
    def _has_a_main_one(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        check_metrics(metrics)
        return metrics

    @property
    def metric(self) -> Metric:
        """The main metric, by which trials are compared."""
        return self.task_metrics[0]

    def metric_of(self, name: str) -> Metric:
        """The metric of a number in `metrics`; of one that the task does not describe, neither way is better."""
        return find_metric(self.task_metrics, name) or Metric(name, None)


def write_record(folder: Path, record: Record) -> None:
    """Finish the trial in `folder`, whose other files are all written; digests of them are written too."""
    write_sealed(folder / RECORD_FILE, json.loads(record.model_dump_json()))


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, None where the trial is not finished; `ValueError` where the file is no whole record."""
    found = read_sealed_record(folder)
    return None if found is None else found[0]


def read_sealed_record(folder: Path) -> tuple[Record, Digests] | None:
    """Read a trial's record, with the digests of its other files, none of which is looked at."""
    path = folder / RECORD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise ValueError(_damaged(path, "it is not text")) from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(path, str(error))) from None
    version = found.get("schema_version", 1) if isinstance(found, dict) else 1
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ValueError(
            f"{str(path)!r} was written by a newer qat (schema {version}, this one reads up to "
            f"{SCHEMA_VERSION}). Update qat, or use another run folder."
        )
    if isinstance(found, dict) and not is_own(found):
        raise ValueError(_damaged(path, "its content is not what was written"))
    try:
        record = Record.model_validate(_upgraded(found, version))
        return record, digests_in(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(_damaged(path, f"{place + ': ' if place else ''}{first['msg']}")) from None


FRACTIONS = (
    *("accuracy", "top5_accuracy", "f1", "macro_f1", "precision", "recall"),
    *("ap", "map", "mAP", "map50", "map50_95", "map33", "f33"),
)
ERRORS = {
    "cross_entropy": Metric("cross_entropy", "lower", unit="nats", range=(0.0, None)),
    **{name: Metric(name, "lower", range=(0.0, None)) for name in ("loss", "mae", "mse", "rmse")},
    "perplexity": Metric("perplexity", "lower", range=(1.0, None)),
    "f33_threshold": Metric("f33_threshold", None, range=(0.0, 1.0)),
}
BEFORE_3 = {name: fraction(name) for name in FRACTIONS} | ERRORS
"""Metrics by their exact names in records of schemas 1 and 2, which did not say what a metric is."""


RENAMED = {"raised": "high_bit_layers", "did": "provenance"}
"""Fields by the names that they had in earlier records."""

LOOSE: dict[str, str] = {"deeppcb_ap": "map33", "deeppcb_f": "f33", "deeppcb_threshold": "f33_threshold"}
"""Metrics of detectors by the names that they had before these named the published criterion of the set."""


def _upgraded(found: Any, version: Any) -> Any:
    """Convert a record's content to the present schema.

    Schema 1 had `seconds` in the place of timings and no keys, schemas 1 and 2 only the name of the main metric. One
    that is not known by that name is taken for what those schemas asked for: more of it is better.
    """
    if not isinstance(found, dict):
        return found
    found = _loose({RENAMED.get(str(name), str(name)): value for name, value in found.items()})
    if version not in (1, 2):
        return found
    rest = {name: value for name, value in found.items() if name not in ("seconds", "metric")}
    if version == 1 and "seconds" in found:
        rest["timings"] = {"seconds": found["seconds"]}
    main, numbers = found.get("metric", "accuracy"), found.get("metrics", {})
    if not isinstance(main, str) or not isinstance(numbers, dict):
        return found
    names = dict.fromkeys(name.partition("/")[0] for name in numbers if name != main)
    metrics = (BEFORE_3.get(main) or Metric(main), *(BEFORE_3[name] for name in names if name in BEFORE_3))
    return {**rest, "schema_version": SCHEMA_VERSION, "task_metrics": tuple(dict.fromkeys(metrics))}


def _loose(found: dict[str, Any]) -> dict[str, Any]:
    """Rename the metrics of `LOOSE` in a record of the time before; a later one has `map33` too."""
    numbers, metrics = found.get("metrics"), found.get("task_metrics", [])
    if not isinstance(numbers, dict) or not isinstance(metrics, list) or "map33" in numbers:
        return found
    renamed = {"/".join(LOOSE.get(part, part) for part in str(name).split("/")): x for name, x in numbers.items()}
    named = [{**one, "name": LOOSE.get(one["name"], one["name"])} for one in metrics if "name" in one]
    return {**found, "metrics": renamed} | ({"task_metrics": named} if "task_metrics" in found else {})


def _damaged(path: Path, why: str) -> str:
    return f"{str(path)!r} is damaged ({why}): it was cut off or edited. Run the sweep again to redo this trial alone."
