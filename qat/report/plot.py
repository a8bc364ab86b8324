"""The summary as a picture: accuracy against bits, PTQ beside QAT, float and control as bands."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qat.report.summary import Row
from qat.stats import Estimate

BANDS = {"float": ("float", "#555555"), "control": ("control: float, trained on", "#2a7f3f")}
SERIES = {"ptq": ("PTQ", "#c0561a", "o", -0.06), "qat": ("QAT", "#1f5fa8", "s", 0.06)}


def accuracy_plot(rows: Sequence[Row], title: str) -> bytes:
    """A PNG. Recipes stand in the order of the rows; error bars and bands are 95 % intervals over seeds."""
    recipes = list(dict.fromkeys(row.recipe for row in rows if row.recipe is not None))
    place: dict[str | None, int] = {recipe: i for i, recipe in enumerate(recipes)}
    figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for arm, (name, colour) in BANDS.items():
        for row in (row for row in rows if row.arm == arm):
            _band(axes, row.accuracy, name, colour)
    for arm, (name, colour, marker, shift) in SERIES.items():
        shown = [row for row in rows if row.arm == arm]
        if shown:
            x = [place[row.recipe] + shift for row in shown]
            estimates = [row.accuracy for row in shown]
            errors = [estimate.half_width or 0.0 for estimate in estimates]
            means = [estimate.mean for estimate in estimates]
            axes.errorbar(x, means, errors, label=name, color=colour, marker=marker, linestyle="none", capsize=4)
    axes.set_xticks(range(len(recipes)), recipes)
    axes.set_xlim(-0.5, max(len(recipes), 1) - 0.5)
    axes.set_xlabel("bits of weights (w) and activations (a)")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(title)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="best", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _band(axes: Axes, value: Estimate, name: str, colour: str) -> None:
    axes.axhline(value.mean, color=colour, linewidth=1.2, label=name)
    if value.low is not None and value.high is not None:
        axes.axhspan(value.low, value.high, color=colour, alpha=0.12, linewidth=0)
