"""The record of one trial on disk: `record.json`, written last, so that a folder that has it is finished."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from qat.lab.runs.files import Digests, digests_in, is_own, write_sealed
from qat.registry import parse_call

type Arm = Literal["float", "control", "ptq", "qat"]

RECORD_FILE = "record.json"
SCHEMA_VERSION = 2


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
    was made from, by kind. `metrics` are numbers on the test split, the task's own units (fractions for accuracies);
    `metric` names the main one, of which more is better. `raised` are the paths of the layers that got 8 bits for their
    sensitivity; `did` says in words how the model was quantized and trained. `size_bytes` is that of the model's file,
    `threads` those of XLA in each stage and in the trial itself, as last digits depend on them,
    `timings` what depends on the machine: `seconds` of the trial, and where they were measured `latency_ms` of one
    call, `float_latency_ms` of the float model in the same run, the `latency_batch` of both, how many times `faster`
    the first is (median and quartiles, `faster_low` and `faster_high`, over `faster_parts` of the measurement), and on
    how many `cores`. `program` is the digest of what was compiled for the call: where it is the same, so is its time.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    trial: str
    key: str = ""
    labels: dict[str, str]
    arm: Arm
    recipe: str | None
    raised: tuple[str, ...] = ()
    did: str = ""
    seed: int
    lineage: Lineage
    stages: dict[str, str] = {}
    metric: str = "accuracy"
    metrics: dict[str, float]
    examples: int
    size_bytes: int
    program: str = ""
    threads: dict[str, int] = {}
    timings: dict[str, float]

    @field_validator("recipe")
    @classmethod
    def _is_a_call(cls, recipe: str | None) -> str | None:
        if recipe is not None:
            parse_call(recipe)
        return recipe


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
        record = Record.model_validate(_from_version_1(found) if version == 1 else found)
        return record, digests_in(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(_damaged(path, f"{place + ': ' if place else ''}{first['msg']}")) from None


def _from_version_1(found: Any) -> Any:
    """Convert a record of schema 1, which had `seconds` in the place of timings, no keys, and one main metric."""
    if not isinstance(found, dict) or "seconds" not in found:
        return found
    rest = {name: value for name, value in found.items() if name != "seconds"}
    return {**rest, "schema_version": SCHEMA_VERSION, "timings": {"seconds": found["seconds"]}}


def _damaged(path: Path, why: str) -> str:
    return f"{str(path)!r} is damaged ({why}): it was cut off or edited. Run the sweep again to redo this trial alone."
