"""How a metric is shown: fractions as points of a hundred, anything else as it is."""

import re
from dataclasses import dataclass

FRACTION = re.compile(r"(accuracy|f1|(^|[\W_])(map(50(_95)?)?|ap))$", re.IGNORECASE)
MARGIN = 0.3  # points: a difference that does not matter


@dataclass(frozen=True)
class Scale:
    """A metric's value times `factor` is shown, with `decimals` (None: four significant digits); differences are in
    `unit`. `margin`, in that unit, is the difference that does not matter unless the caller says another."""

    heading: str
    factor: float
    unit: str
    decimals: int | None
    margin: float | None

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
        return Scale(f"{metric}, %", 100.0, "points", 2, MARGIN)
    return Scale(metric, 1.0, "", None, None)
