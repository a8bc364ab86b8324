"""Axes of a study or a search: what each is set to, arm by arm, and how much of the result it explains alone."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qat.lab.report.pairing import main_metric
from qat.lab.runs.record import Record

SEED = "seed"
LEAST = 3  # axes from which on they are worth a picture


@dataclass(frozen=True)
class Axis:
    """An axis with its values in order, as text, their `places` from 0 to 1, and its `importance`: the share of the
    variance of the main metric over all trials that the axis explains by itself, None where it cannot be told."""

    name: str
    values: tuple[str, ...]
    places: tuple[float, ...]
    importance: float | None


def axes(records: Sequence[Record]) -> list[Axis]:
    """The axes but the seed's along which finished trials differ, the most important first; none where these are fewer
    than three."""
    names = [name for name in dict.fromkeys(name for one in records for name in one.labels) if name != SEED]
    found = []
    for name in names:
        values = list(dict.fromkeys(one.labels[name] for one in records if name in one.labels))
        if len(values) > 1:
            order, places = _placed(values)
            found.append(Axis(name, order, places, importance(records, name)))
    if len(found) < LEAST:
        return []
    return sorted(found, key=lambda one: -(one.importance or 0.0))


def importance(records: Sequence[Record], axis: str) -> float | None:
    """Epsilon squared (Kelley 1935) of one axis: the between-group part of the variance, less what chance puts there.

    None where fewer than two values have several results, or all results are the same.
    """
    groups: dict[str, list[float]] = {}
    for one in records:
        value = main_metric(one)
        if value is not None and axis in one.labels:
            groups.setdefault(one.labels[axis], []).append(value)
    everything = np.array([value for group in groups.values() for value in group])
    spare = len(everything) - len(groups)
    total = float(((everything - everything.mean()) ** 2).sum()) if len(everything) else 0.0
    if len(groups) < 2 or spare < 1 or total <= 0:
        return None
    within = sum(float(((np.array(group) - np.mean(group)) ** 2).sum()) for group in groups.values())
    return max(0.0, (total - within - (len(groups) - 1) * within / spare) / total)


def _placed(values: Sequence[str]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Values in order with their places: numbers by size, on a logarithmic axis where they span it; words as they
    came, evenly."""
    numbers = [_number(value) for value in values]
    if None in numbers:
        return tuple(values), tuple(np.linspace(0.0, 1.0, len(values)).tolist())
    sizes = dict(sorted(zip(values, (n for n in numbers if n is not None), strict=True), key=lambda item: item[1]))
    low, high = min(sizes.values()), max(sizes.values())
    scale = math.log if low > 0 and high > 20 * low else float
    ends = scale(low), scale(high)
    return tuple(sizes), tuple((scale(size) - ends[0]) / (ends[1] - ends[0] or 1.0) for size in sizes.values())


def _number(label: str) -> float | None:
    """The number that a label such as `weight_decay 0.001` ends with."""
    found = re.search(r"(?:^|\s)([-+]?[\d.]+(?:e[-+]?\d+)?)$", label)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def settings(record: Record, found: Sequence[Axis]) -> list[float | None]:
    """The places of a trial on these axes, None on one that it has no label of."""
    places: list[Mapping[str, float]] = [dict(zip(one.values, one.places, strict=True)) for one in found]
    return [by_value.get(record.labels.get(one.name, "")) for one, by_value in zip(found, places, strict=True)]
