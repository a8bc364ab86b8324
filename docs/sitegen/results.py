"""Kept tables of studies, `experiments/results/NAME.csv`, and what a page shows of them."""

import csv
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qat.lab.stats import Estimate, estimate, paired_difference
from sitegen.source import ROOT

RESULTS = ROOT / "experiments" / "results"
NAMES, SIZES = {"arm", "recipe", "seed"}, {"size_bytes", "float_size_bytes"}
"""Columns that are no metric of the task."""
TIMES = re.compile(r"latency_ratio|.*_drop_from_.*")
SHARES = re.compile(r"(.*/)?(accuracy|f1|f33|map|deeppcb)")
"""Metrics between 0 and 1 that are shown in percent."""
BITS = re.compile(r"w[2-8](a[2-8])?(_dynamic)?$")


@dataclass(frozen=True)
class Arm:
    """An arm of a kept study: its values of each column by seed."""

    name: str
    columns: Mapping[str, Mapping[str, float]]

    @property
    def bits(self) -> str:
        """The bits in its name, such as `w4a8`; empty for a float arm."""
        found = BITS.search(self.name.rpartition(" ")[2])
        return found[0] if found else ""

    @property
    def method(self) -> str:
        """Its name without the bits."""
        return " ".join(word for word in self.name.split() if word != self.bits)


@dataclass(frozen=True)
class Table:
    """A kept study: its arms in their order, and its metrics, the main one first."""

    name: str
    arms: Mapping[str, Arm]
    metrics: tuple[str, ...]


def kept(name: str) -> Path:
    """The file of a study's kept table."""
    return RESULTS / f"{name}.csv"


@functools.cache
def read(name: str) -> Table:
    """The kept table of a study. Raises `ValueError` for a table without arms or metrics."""
    with kept(name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [column for column in (rows[0] if rows else {}) if column not in NAMES and _is_numeric(rows, column)]
    metrics = tuple(one for one in numbers if one not in SIZES and not TIMES.match(one))
    if not rows or not metrics:
        raise ValueError(f"{kept(name).name} has no row or no metric. Write it again with `qat keep`.")
    arms = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        values = {column: {row["seed"]: float(row[column]) for row in own if row[column]} for column in numbers}
        arms[arm] = Arm(arm, values)
    return Table(name, arms, metrics)


def _is_numeric(rows: Sequence[Mapping[str, str]], column: str) -> bool:
    """Whether all values that a column has are numbers."""
    try:
        return bool([float(row[column]) for row in rows if row[column]])
    except ValueError:
        return False


def factor(metric: str) -> float:
    """The number that a metric is shown times: 100 for a share, in percent."""
    return 100.0 if SHARES.match(metric) else 1.0


def unit(metric: str) -> str:
    """The unit that a metric is shown in."""
    return "%" if SHARES.match(metric) else ""


def mean(arm: Arm, metric: str) -> Estimate:
    """The mean of an arm over its seeds, with its interval."""
    return estimate([factor(metric) * value for value in arm.columns[metric].values()])


def difference(first: Arm, second: Arm, metric: str) -> Estimate | None:
    """The first arm less the second, seed by seed; less the second's only value where it has one; else None."""
    mine, other = first.columns[metric], second.columns[metric]
    if len(other) == 1:
        other = dict.fromkeys(mine, next(iter(other.values())))
    seeds = [seed for seed in mine if seed in other]
    if not seeds:
        return None
    scale = factor(metric)
    return paired_difference([scale * mine[seed] for seed in seeds], [scale * other[seed] for seed in seeds])


def shown(found: Estimate | None, sign: bool = False) -> str:
    """An estimate as a table's cell: mean and half of the interval; of a single seed the mean."""
    if found is None:
        return ""
    mark = "+" if sign else ""
    half = found.half_width
    return f"{round(found.mean, 2) + 0.0:{mark}.2f}" + ("" if half is None else f" ± {half:.2f}")


def rows_of(table: Table) -> list[list[str]]:
    """The cells of a study's table: an arm a row, means of all metrics, differences of the main one, size and time."""
    main = table.metrics[0]
    heads = ["arm", "n", *(f"{one}{', %' if unit(one) else ''}" for one in table.metrics)]
    others = [name for name in ("float", "control") if name in table.arms]
    heads += [*(f"{main} - {name}" for name in others), "size, kB", "served / float time"]
    body = []
    for arm in table.arms.values():
        cells = [arm.name, str(len(arm.columns[main]))]
        cells += [shown(mean(arm, one)) if arm.columns[one] else "" for one in table.metrics]
        for name in others:
            compared = arm.name not in ("float", name)
            cells.append(shown(difference(arm, table.arms[name], main), sign=True) if compared else "")
        body.append([*cells, *_size_and_time(arm)])
    return [heads, *body]


def _size_and_time(arm: Arm) -> tuple[str, str]:
    sizes, times = (list(arm.columns.get(name, {}).values()) for name in ("size_bytes", "latency_ratio"))
    size = f"{sum(sizes) / len(sizes) / 1000:,.1f}" if sizes else ""
    return size, f"{sorted(times)[len(times) // 2]:.2f}" if times else ""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first one its heads."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
