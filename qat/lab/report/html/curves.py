"""Training curves thinned to what a screen shows."""

import functools
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read_curves(path: Path) -> tuple[Curve, ...]:
    """The stages in a `metrics.jsonl`, at `POINTS` evenly chosen lines each, the first and the last among them.

    Lines that are not whole are passed over: a trial that runs is still writing its last one.
    """
    lines = _thin(path.read_bytes().decode("utf-8", "replace").split("\n"), LINES)
    blocks = ["\n".join(block) for _, block in itertools.groupby(lines, lambda line: line.partition(",")[0])]
    found = [curve for block in blocks for curve in _curves(block)]
    in_turns = len({curve.stage for curve in found}) < len(found)
    return _curves("\n".join(lines)) if in_turns else tuple(found)


@functools.lru_cache(maxsize=REMEMBERED)
def _curves(text: str) -> tuple[Curve, ...]:
    """The stages in some lines; trials that share a stage hold the same ones."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for entry in _entries(text.split("\n")):
        stages.setdefault(str(entry.get("stage", "training")), []).append(entry)
    return tuple(_curve(stage, _thin(entries, POINTS)) for stage, entries in stages.items())


def short(value: Any, digits: int = 4) -> float | int | None:
    """A number in a few significant digits; None where it is none or not finite, which JSON cannot say."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < EXACT else rounded


def _entries(lines: Iterable[str]) -> list[dict[str, Any]]:
    kept = [line for line in lines if line.strip()]
    try:
        found = json.loads(f"[{','.join(kept)}]")
    except ValueError:
        found = [_parsed(line) for line in kept]
    return [entry for entry in found if isinstance(entry, dict) and isinstance(entry.get("step"), int)]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _thin[T](items: Sequence[T], most: int) -> Sequence[T]:
    if len(items) <= most:
        return items
    last = len(items) - 1
    return [items[round(i * last / (most - 1))] for i in range(most)]


def _curve(stage: str, entries: Sequence[dict[str, Any]]) -> Curve:
    found = {name for entry in entries for name in entry} - {"stage", "step"}
    names = sorted(found, key=lambda name: (name != "loss", name))
    values = ((name, tuple(short(entry.get(name)) for entry in entries)) for name in names)
    told = tuple((name, of) for name, of in values if any(value is not None for value in of))
    return Curve(stage, tuple(entry["step"] for entry in entries), told)
