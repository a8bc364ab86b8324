"""The record of one trial on disk: `record.json`, written last, so that a folder that has it is finished."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from qat.storage import write_atomically

type Arm = Literal["float", "control", "ptq", "qat"]

RECORD_FILE = "record.json"
SCHEMA_VERSION = 1


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
    """What came out of one trial. Accuracies are fractions; `size_bytes` is that of the model's file."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    trial: str
    labels: dict[str, str]
    arm: Arm
    recipe: str | None
    seed: int
    lineage: Lineage
    metrics: dict[str, float]
    examples: int
    size_bytes: int
    seconds: float


def write_record(folder: Path, record: Record) -> None:
    """Finish the trial in `folder`."""
    write_atomically(folder / RECORD_FILE, record.model_dump_json(indent=2) + "\n")


def read_record(folder: Path) -> Record | None:
    """The record in `folder`, None where the trial is not finished; `ValueError` where the file is no whole record."""
    path = folder / RECORD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise ValueError(_damaged(path, "it is not text")) from None
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(_damaged(path, f"{place + ': ' if place else ''}{first['msg']}")) from None
    if record.schema_version > SCHEMA_VERSION:
        raise ValueError(
            f"{str(path)!r} was written by a newer qat (schema {record.schema_version}, this one reads up to "
            f"{SCHEMA_VERSION}). Update qat, or use another run folder."
        )
    return record


def _damaged(path: Path, why: str) -> str:
    return f"{str(path)!r} is damaged ({why}): it was cut off or edited. Run the sweep again to redo this trial alone."
