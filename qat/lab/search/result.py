"""The result of a search: its points, the best of them, and both as a table."""

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.lab.experiment.config import ExperimentConfig
from qat.lab.runs.record import Record
from qat.lab.search.storage import Point
from qat.lab.sweep.space import Search, key_of, measured_base, trial_of
from qat.lab.sweep.study import Trial
from qat.tasks.metric import Metric

SHOWN = 10
ABLE = "finished"
WORDS = {
    "pruned": "stopped early",
    "infeasible": "beyond the budget, never run",
    "failed": "failed",
    "running": "running",
}


@dataclass(frozen=True)
class Found:
    """The points of a search in their order, and the `objective` that it goes by."""

    search: Search
    objective: Metric
    points: tuple[Point, ...]

    @property
    def ranking(self) -> list[Point]:
        """The finished points within the budget, the best first and of equal ones the smallest."""
        able = [(p.value, p) for p in self.points if p.outcome == ABLE and not p.over and p.value is not None]
        sign = -self.objective.sign
        return [p for _, p in sorted(able, key=lambda pair: (sign * pair[0], pair[1].size_bytes or 0, pair[1].number))]

    @property
    def best(self) -> Point | None:
        """The first of the ranking, None where it is empty."""
        return next(iter(self.ranking), None)

    def trials(self, base: ExperimentConfig) -> tuple[Trial, ...]:
        """The trials that were started, as a study has them; `base` is the search's."""
        started = ("finished", "pruned", "failed")
        values = {key_of(p.values): p.values for p in self.points if p.outcome in started and p.trial}
        base = measured_base(self.search, base)
        return tuple(trial_of(base, one) for one in values.values())

    def __rich__(self) -> Table:
        return _table(self)


def number_of(record: Record, name: str, split: str) -> float:
    """A number of a record by name: a metric on a split other than test, `size_bytes`, a time. Raises `ValueError` with
    the known names."""
    prefix = f"{split}/"
    metrics = {key.removeprefix(prefix): value for key, value in record.metrics.items() if key.startswith(prefix)}
    numbers = {**record.timings, "size_bytes": float(record.size_bytes), **metrics}
    if name not in numbers:
        raise ValueError(f"a record has no number {name!r}. Known: {', '.join(sorted(numbers))}.")
    return numbers[name]


def _table(found: Found) -> Table:
    search, objective = found.search, found.objective
    budget = "".join(f", {name} <= {limit:,.10g}" for name, limit in search.budget.items())
    title = Text(f"best {objective.name} of {search.split} ({objective.better} is better){budget}")
    table = Table(title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    for name in search.space:
        table.add_column(Text(name), overflow="fold")
    table.add_column(objective.heading, justify="right")
    table.add_column("size, kB", justify="right")
    table.add_column("trial", overflow="fold")
    for point in found.ranking[:SHOWN]:
        size = "" if point.size_bytes is None else f"{point.size_bytes / 1000:,.1f}"
        value = "" if point.value is None else objective.text(objective.shown(point.value))
        values = [Text(str(point.values.get(name))) for name in search.space]
        table.add_row(*values, value, size, Text(point.trial or ""))
    table.caption = Text(_counts(found))
    return table


def _counts(found: Found) -> str:
    done = [point for point in found.points if point.outcome == ABLE]
    beyond = sum(bool(point.over) for point in done)
    counts = [f"{len(done)} trials finished" + (f" ({beyond} of them beyond the budget)" if beyond else "")]
    for outcome, words in WORDS.items():
        count = sum(point.outcome == outcome for point in found.points)
        counts += [f"{count} {words}"] if count else []
    return "; ".join(counts) + "."
