"""Outcomes of a finished study in one small file, from which others recompute its verdicts: `NAME.npz` beside the kept
table `NAME.csv`.

It holds the records, the declared contrasts, and of each trial's main metric the value of every test example, one bit
each where it is right or wrong, or for an average precision its values on images drawn anew.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qat.fileio import write_atomically
from qat.lab.report.contents import Declared, read_contents
from qat.lab.report.images import Outcomes, outcomes_in
from qat.lab.runs.record import Record
from qat.lab.stats.contrasts import from_json, named, to_json

KEPT = (".csv", ".npz")  # ends of the names of a kept table and of its outcomes
ABOUT = "about"
LEFT_OUT = {"ptq", "provenance"}  # of records: long texts that no verdict goes by
RIGHT, VALUES, DRAWS = "right", "values", "draws"


@dataclass(frozen=True)
class Kept:
    """A study as it was kept: its name, the records, the contrasts that it declared, and the trials' outcomes."""

    name: str
    records: tuple[Record, ...]
    contrasts: tuple[Declared, ...]
    outcomes: Outcomes


def beside(file: Path) -> Path:
    """The file of outcomes that belongs to a kept table."""
    return file.with_suffix(".npz")


def keep_outcomes(root: Path, table: Path) -> Path:
    """Write the outcomes of a finished study beside its kept table, and return the path of the file."""
    contents = read_contents(root)
    outcomes, records = outcomes_in(contents.folders), list(contents.records.values())
    arrays: dict[str, np.ndarray] = {}
    for i, record in enumerate(records):
        found, drawn = outcomes.examples(record, None), outcomes.drawn(record, None)
        if found is not None and np.isin(found, (0, 1)).all():
            arrays[f"{RIGHT}{i}"] = np.packbits(found.astype(bool))
        elif found is not None:
            arrays[f"{VALUES}{i}"] = found
        elif drawn is not None:
            arrays[f"{DRAWS}{i}"] = drawn.astype(np.float32)
    about = {
        "name": contents.name,
        "records": [record.model_dump(mode="json", exclude=LEFT_OUT) for record in records],
        "contrasts": [{**to_json(one.contrast), "seen": one.seen} for one in contents.contrasts],
    }
    arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    file = beside(table)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue())
    return file


def read_kept(file: Path) -> Kept:
    """Read what `keep_outcomes` wrote; `file` is it or the table beside. Raises `ValueError` where there is none, or a
    damaged one."""
    path = beside(file)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop(ABOUT).tobytes())
        records = tuple(map(Record.model_validate, about["records"]))
        trials = {record.trial: record.labels for record in records}
        contrasts = tuple(_declared(one, trials) for one in about["contrasts"])
        return Kept(str(about["name"]), records, contrasts, _outcomes(records, arrays))
    except FileNotFoundError:
        table = file.with_suffix(".csv")
        raise ValueError(f"there is no {str(path)!r}. Write it with `qat keep RUNS {table} --metric NAME`.") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}). Write it again with `qat keep`.") from None


def _declared(found: Mapping[str, Any], trials: Mapping[str, Mapping[str, str]]) -> Declared:
    contrast = from_json(found)
    first, second = (frozenset(named(name, trials)) for name in (contrast.first, contrast.second))
    return Declared(contrast, first, second, seen=int(found.get("seen", 0)))


def _outcomes(records: tuple[Record, ...], arrays: Mapping[str, np.ndarray]) -> Outcomes:
    places = {record.trial: i for i, record in enumerate(records)}

    def examples(record: Record, name: str | None) -> np.ndarray | None:
        i, own = places[record.trial], name in (None, record.metric.name)
        if own and (packed := arrays.get(f"{RIGHT}{i}")) is not None:
            return np.unpackbits(packed, count=record.examples).astype(np.float32)
        return arrays.get(f"{VALUES}{i}") if own else None

    def drawn(record: Record, name: str | None) -> np.ndarray | None:
        return arrays.get(f"{DRAWS}{places[record.trial]}") if name in (None, record.metric.name) else None

    return Outcomes(examples, drawn)
