"""Training curves: one row for each number that was written down."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from qat.lab.runs.files import METRICS_FILE
from qat.lab.runs.studies import Found, long_frame


def curves(path: str | Path) -> pd.DataFrame:
    """Columns `study`, `trial`, `stage`, `step`, `metric`, `value`; one row for each number of each line.

    Trials that are not finished are in it too. Merge with `load(path)` on `study` and `trial` for labels. A last line
    that is still being written is passed over; other damage is named in `frame.attrs["damaged"]`.
    """
    return long_frame(path, METRICS_FILE, ["stage", "step", "metric", "value"], _parse)


def _parse(text: str) -> Found:
    rows, problems = [], []
    *lines, last = text.split("\n")
    for number, line in enumerate([*lines, last] if last else lines, start=1):
        try:
            rows += _numbers(json.loads(line))
        except (ValueError, KeyError, AttributeError):
            if number <= len(lines):
                problems.append(f"line {number}")
    return Found(rows, problems)


def _numbers(entry: dict[str, Any]) -> list[tuple[str, int, str, float]]:
    stage, step = entry.pop("stage"), entry.pop("step")
    return [(stage, step, name, value) for name, value in entry.items() if isinstance(value, int | float)]
