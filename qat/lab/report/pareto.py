"""The arms as points: what each costs and what it reaches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qat.lab.report.summary import Row
from qat.lab.runs.record import Arm
from qat.tasks.metric import Metric

type Cost = Literal["size", "latency"]

CROWD = 60  # arms; pictures of more show smaller points, and no intervals
SPAN = 2.0  # times the least cost is the largest on an axis, or more: what differs less is not to fill it
NAMED = 24  # recipes; of more, an axis does not name each
COSTS: tuple[Cost, ...] = ("size", "latency")


@dataclass(frozen=True)
class Point:
    """An arm: its main metric as shown, with its interval over `n` seeds, and what it costs (None: not known).

    Of few seeds there is no interval, `low` and `high` are None, and `seeds` holds their values. `size` is in kB,
    `latency` in milliseconds.
    """

    label: str
    arm: Arm
    recipe: str | None
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    n: int
    size: float | None
    latency: float | None


def comparable(rows: Sequence[Row]) -> list[Row]:
    """Select the rows that have a number and share the first one's metric."""
    scored = [row for row in rows if row.score.n]
    return [row for row in scored if row.metric == scored[0].metric]


def points(rows: Sequence[Row]) -> list[Point]:
    """Rows that can stand in one picture."""
    return [_point(row) for row in comparable(rows)]


def best(found: Sequence[Point], cost: Cost, metric: Metric) -> list[int]:
    """Places of the points that no other beats in both the metric and the cost, by rising cost."""
    costs = {i: value for i, one in enumerate(found) if (value := getattr(one, cost)) is not None}
    places = list(costs)
    return [places[k] for k in front([(costs[i], metric.sign * found[i].value) for i in places])]


def _point(row: Row) -> Point:
    low, high = (None if row.score.points else row.metric.interval(row.score.low, row.score.high)) or (None, None)
    return Point(
        label=row.name,
        arm=row.arm,
        recipe=row.recipe,
        value=row.score.mean,
        low=low,
        high=high,
        seeds=row.score.points,
        n=row.score.n,
        size=_cost(row.size_bytes / 1000),
        latency=_cost(row.speed and row.speed.latency_ms),
    )


def _cost(value: float | None) -> float | None:
    """A cost where a logarithmic axis can show it, else None."""
    return value if value is not None and 0 < value < math.inf else None


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, value) that no other beats in one respect, less cost or more value, and equals in the
    other, by rising cost.

    Of points that are the same, all count.
    """
    found: list[int] = []
    best = None
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if best is None or points[i][1] > best[1] or points[i] == best:
            found.append(i)
            best = points[i]
    return found
