"""Training curves thinned to what a screen shows."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qat.lab.runs.metrics import STAGE, STEP, Entry, entries, lines_of

POINTS = 48  # of one curve on the page
LINES = 4_000  # of a file that are parsed
REMEMBERED = 4_096  # stages
EXACT = 2.0**53  # below it every whole number is a float


@dataclass(frozen=True)
class Curve:
    """One stage of a training: each metric with its `values` at `steps`; None where one is missing or not finite."""

    stage: str
    steps: tuple[int, ...]
    values: tuple[tuple[str, tuple[float | None, ...]], ...]


def read_curves(folder: Path) -> tuple[Curve, ...]:
    """The stages in a trial's training curves, at `POINTS` evenly chosen lines each, the first and the last among them.

    Lines that are not whole are passed over: a trial that runs is still writing its last one.
    """
    lines = _thin(lines_of(folder), LINES)
    blocks = ["\n".join(block) for _, block in itertools.groupby(lines, lambda line: line.partition(",")[0])]
    found = [curve for block in blocks for curve in _curves(block)]
    in_turns = len({curve.stage for curve in found}) < len(found)
    return _curves("\n".join(lines)) if in_turns else tuple(found)


@functools.lru_cache(maxsize=REMEMBERED)
def _curves(text: str) -> tuple[Curve, ...]:
    """The stages in some lines; trials that share a stage hold the same ones."""
    stages: dict[str, list[Entry]] = {}
    for entry in entries(line for line in text.split("\n") if line):
        if entry is not None:
            stages.setdefault(entry[STAGE], []).append(entry)
    return tuple(_curve(stage, _thin(entries, POINTS)) for stage, entries in stages.items())


def short(value: Any, digits: int = 4) -> float | int | None:
    """A number in a few significant digits; None where it is none or not finite, which JSON cannot say."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < EXACT else rounded


def _thin[T](items: Sequence[T], most: int) -> Sequence[T]:
    if len(items) <= most:
        return items
    last = len(items) - 1
    return [items[round(i * last / (most - 1))] for i in range(most)]


def _curve(stage: str, points: Sequence[Entry]) -> Curve:
    found = {name for point in points for name in point} - {STAGE, STEP}
    names = sorted(found, key=lambda name: (name != "loss", name))
    values = ((name, tuple(short(point.get(name)) for point in points)) for name in names)
    measured = tuple((name, of) for name, of in values if any(value is not None for value in of))
    return Curve(stage, tuple(point[STEP] for point in points), measured)
