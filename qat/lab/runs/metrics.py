"""Training curves on disk: `metrics.jsonl`, a line for each point, with its stage, its step, and numbers by name."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from qat.fileio import write_atomically
from qat.lab.runs.files import METRICS_FILE
from qat.lab.runs.studies import Found, long_frame

STAGE, STEP = "stage", "step"

type Entry = dict[str, Any]
"""A line: `stage`, `step`, and everything else that was written with them."""


def append_point(folder: Path, stage: str, step: int, values: Mapping[str, float]) -> None:
    """Add a point of a training that goes on; readers pass over a last line that is not whole yet."""
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(_line({STAGE: stage, STEP: step, **values}))


def write_points(folder: Path, stage: str, history: Iterable[Mapping[str, float]]) -> None:
    """Write all points of a finished training, each a mapping with its `step`, in the place of what was appended."""
    write_atomically(folder / METRICS_FILE, "".join(_line({STAGE: stage, **point}) for point in history))


def join_points(folder: Path, stages: Iterable[Path]) -> None:
    """Give a trial's folder the points of the stages that it was made from, in their order."""
    found = [path for stage in stages if (path := stage / METRICS_FILE).exists()]
    write_atomically(folder / METRICS_FILE, "".join(path.read_text(encoding="utf-8") for path in found))


def lines_of(folder: Path) -> list[str]:
    """The lines of a folder's file, unparsed. After a whole last line comes an empty one. Raises `OSError`."""
    return (folder / METRICS_FILE).read_bytes().decode("utf-8", "replace").split("\n")


def entries(lines: Iterable[str]) -> list[Entry | None]:
    """The content of lines; None for one that is not whole."""
    kept = list(lines)
    try:  # together, which is much faster; an empty line is no JSON and sends all to the slow way
        found = json.loads(f"[{','.join(kept)}]")
        found = found if len(found) == len(kept) else [_parsed(line) for line in kept]
    except ValueError:
        found = [_parsed(line) for line in kept]
    return [one if _is_entry(one) else None for one in found]


def numbers(entry: Entry) -> dict[str, float]:
    """The numbers of a point by name."""
    return {
        name: value for name, value in entry.items() if name not in (STAGE, STEP) and isinstance(value, int | float)
    }


def points(folder: Path) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Stage, step and numbers of every line; one that is not whole ends them, and without the file there are none."""
    try:
        lines = lines_of(folder)
    except FileNotFoundError:
        return
    for entry in itertools.takewhile(lambda one: one is not None, entries(lines)):
        assert entry is not None
        yield entry[STAGE], entry[STEP], numbers(entry)


def curves(path: str | Path) -> pd.DataFrame:
    """Columns `study`, `trial`, `stage`, `step`, `metric`, `value`; one row for each number of each line.

    Trials that are not finished are in it too. Merge with `load(path)` on `study` and `trial` for labels. A last line
    that is still being written is passed over; other damage is named in `frame.attrs["damaged"]`.
    """
    return long_frame(path, METRICS_FILE, [STAGE, STEP, "metric", "value"], _rows)


def _rows(text: str) -> Found:
    *lines, last = text.split("\n")
    found = entries([*lines, last] if last else lines)
    whole = [entry for entry in found if entry is not None]
    rows = [(entry[STAGE], entry[STEP], *number) for entry in whole for number in numbers(entry).items()]
    return Found(rows, [f"line {i}" for i, entry in enumerate(found[: len(lines)], start=1) if entry is None])


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_entry(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get(STAGE), str) and isinstance(found.get(STEP), int)
