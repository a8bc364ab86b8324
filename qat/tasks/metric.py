"""A metric of a task: how its values are shown, which way is better, and the difference that does not matter."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

type Better = Literal["higher", "lower"]

PERCENT = "%"
MARGIN = 0.3  # points of a percentage: a difference that does not matter


@dataclass(frozen=True)
class Metric:
    """A number that a task measures, by the name that its `summary` gives it.

    `better` says whether higher or lower values are; None of a number that is neither, such as a threshold. Values
    times `factor` are shown in `unit`, with `decimals` (None: four significant digits). The rest is as shown: `margin`
    is the difference that does not matter unless the caller says another (None: no equivalence is tested), `range` the
    least and the largest value that there can be (None: any).

    Raises `ValueError` for an empty name, and for numbers that make no scale.
    """

    name: str
    better: Better | None = "higher"
    unit: str = ""
    factor: float = 1.0
    decimals: int | None = None
    margin: float | None = None
    range: tuple[float | None, float | None] = (None, None)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("`name` of a metric must be that of a number in the task's summary, got an empty one.")
        if self.better not in ("higher", "lower", None):
            raise ValueError(
                f"`better` of metric {self.name!r} must be 'higher', 'lower' or None, got {self.better!r}."
            )
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"`factor` of metric {self.name!r} must be positive, got {self.factor}.")
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin > 0):
            raise ValueError(
                f"`margin` of metric {self.name!r} must be positive, got {self.margin}. None tests nothing."
            )
        if self.decimals is not None and self.decimals < 0:
            raise ValueError(f"`decimals` of metric {self.name!r} must be 0 or more, got {self.decimals}.")
        ends = [end for end in self.range if end is not None]
        if not all(map(math.isfinite, ends)) or ends != sorted(set(ends)):
            raise ValueError(f"`range` of metric {self.name!r} must rise, with None for no bound, got {self.range}.")

    @property
    def heading(self) -> str:
        """The name with the unit of its values: `accuracy, %`."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    @property
    def label(self) -> str:
        """The heading for an axis, which says where lower is better."""
        return f"{self.heading} (lower is better)" if self.better == "lower" else self.heading

    @property
    def difference_unit(self) -> str:
        """The unit of differences: points of percentages."""
        return "points" if self.unit == PERCENT else self.unit

    @property
    def worsening(self) -> Literal["drop", "rise"]:
        """The word for a change to the worse."""
        return "rise" if self.better == "lower" else "drop"

    @property
    def sign(self) -> int:
        """1 where higher values are better, -1 where lower ones are: times a value it grows as things get better.

        Raises `ValueError` where neither is.
        """
        if self.better is None:
            raise ValueError(f"no value of {self.name!r} is better than another. Choose a metric with a direction.")
        return -1 if self.better == "lower" else 1

    @property
    def largest_difference(self) -> float | None:
        """The largest that two values can differ by, as shown; None where there is no such bound."""
        low, high = self.range
        return None if low is None or high is None else high - low

    def shown(self, value: float) -> float:
        """Convert a value as measured to the one that is shown."""
        return self.factor * value

    def interval(self, low: float | None, high: float | None, difference: bool = False) -> tuple[float, float] | None:
        """An interval of values, or of a `difference`, as far as there can be such values; None where an end is."""
        if low is None or high is None:
            return None
        least, most = (-math.inf if self.range[0] is None else self.range[0]), self.range[1]
        most = math.inf if most is None else most
        if difference:
            least, most = least - most, most - least
        return max(low, least), min(high, most)

    def text(self, shown: float, sign: bool = False) -> str:
        """Write a number that is as `shown`, without its unit."""
        if self.decimals is None:
            return f"{shown + 0.0:{'+' if sign else ''}.4g}"
        rounded = round(shown, self.decimals) + 0.0  # no -0.00
        return f"{rounded:{'+' if sign else ''}.{self.decimals}f}"


def fraction(name: str, better: Better | None = "higher") -> Metric:
    """A metric in [0, 1] that is shown in percent; differences are in points, of which 0.3 do not matter."""
    return Metric(name, better, unit=PERCENT, factor=100.0, decimals=2, margin=MARGIN, range=(0.0, 100.0))


def check_metrics(metrics: Any) -> None:
    """Raise `ValueError` unless these are a tuple of metrics that differ in name, the first one with a direction."""
    if not (isinstance(metrics, tuple) and metrics and all(isinstance(one, Metric) for one in metrics)):
        raise ValueError(
            f"`metrics` must be a tuple of `Metric`s, the main one first, got {metrics!r}. "
            "An accuracy is (fraction('accuracy'),), an error (Metric('rmse', 'lower'),); see qat.tasks.metric."
        )
    names = [one.name for one in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f"`metrics` must differ in name, got {', '.join(names)}.")
    if metrics[0].better is None:
        raise ValueError(f"`metrics`: the main one, {names[0]!r}, must have a direction: `better` 'higher' or 'lower'.")


def find_metric(metrics: Iterable[Metric], name: str) -> Metric | None:
    """The metric that a number of a record belongs to, under that number's name: `f1` for `f1/cat`, the score of one
    class, and for `validation/f1`, that of another split. None where no metric has such numbers."""
    known = {metric.name: metric for metric in metrics}
    _, _, behind = name.partition("/")
    for inner in filter(None, (name, behind)):
        for own in (inner, *_parents(inner)):
            if own in known:
                found = known[own]
                return Metric(**{**vars(found), "name": name})
    return None


def _parents(name: str) -> list[str]:
    """The names that stand before a slash in a name, the longest first."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
