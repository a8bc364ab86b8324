"""Display of a metric: fractions as points of a hundred, anything else as it is."""

import math
import re
from dataclasses import dataclass

FRACTION = re.compile(r"(accuracy|f1|(^|[\W_])(map(50(_95)?)?|ap))$", re.IGNORECASE)
MARGIN = 0.3  # points: a difference that does not matter
PERCENT = (0.0, 100.0)


@dataclass(frozen=True)
class Scale:
    """A metric's value times `factor` is shown, with `decimals` (None: four significant digits); differences are in
    `unit`. `margin`, in that unit, is the difference that does not matter unless the caller says another. `range` holds
    the least and the largest value that there can be, as shown (None: any)."""

    heading: str
    factor: float
    unit: str
    decimals: int | None
    margin: float | None
    range: tuple[float, float] | None = None

    @property
    def largest_difference(self) -> float | None:
        """The largest that two values can differ by."""
        return None if self.range is None else self.range[1] - self.range[0]

    def interval(self, low: float | None, high: float | None, difference: bool = False) -> tuple[float, float] | None:
        """An interval of values, or of a `difference`, as far as there can be such values; None where an end is."""
        if low is None or high is None:
            return None
        least, most = (-math.inf, math.inf) if self.range is None else self.range
        if difference:
            least, most = least - most, most - least
        return max(low, least), min(high, most)

    def text(self, value: float, sign: bool = False) -> str:
        """A number that was multiplied by `factor` already."""
        if self.decimals is None:
            return f"{value:{'+' if sign else ''}.4g}"
        rounded = round(value, self.decimals) + 0.0  # no -0.00
        return f"{rounded:{'+' if sign else ''}.{self.decimals}f}"


def scale(metric: str) -> Scale:
    """The scale of a metric by its name: one that ends in accuracy, f1, ap, map, map50 or map50_95 is a fraction, shown
    in percent."""
    if FRACTION.search(metric):
        return Scale(f"{metric}, %", 100.0, "points", 2, MARGIN, PERCENT)
    return Scale(metric, 1.0, "", None, None)
