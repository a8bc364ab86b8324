"""The arms as pictures for a paper or a slide: by recipe, against size, against latency."""

import io
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from qat.lab.report.pareto import CROWD, NAMED, SPAN, Cost, Point, best
from qat.lab.runs.record import Arm
from qat.tasks.metric import Metric

STYLES: dict[Arm, tuple[str, str, str, float]] = {
    "float": ("float", "#555e69", "D", 0.0),
    "control": ("control: float, trained on", "#2a7f3f", "P", 0.0),
    "ptq": ("PTQ", "#c0561a", "o", -0.12),
    "qat": ("QAT", "#1f5fa8", "s", 0.12),
}
BANDS: tuple[Arm, ...] = ("float", "control")
MARKER = 0.015  # half of a marker's height, in that of the picture
LETTERS = 70  # side by side under a picture
COST_LABELS: dict[Cost, str] = {"size": "size of the model's file, kB", "latency": "latency of one call, ms"}


def recipe_plot(points: Sequence[Point], metric: Metric, title: str) -> bytes:
    """A PNG of PTQ beside QAT by recipe, in the order of the points; bars and bands are 95 % intervals over seeds; of
    few seeds lines are their values, and bands reach from the least to the largest.

    Float and control are bands where there is one of each, else points of their own.
    """
    figure, axes = _canvas(title)
    bands = [one for one in points if one.arm in BANDS]
    as_bands = len({one.arm for one in bands}) == len(bands) and len(bands) < len(points)
    shown = [one for one in points if not (as_bands and one.arm in BANDS)]
    places = {name: i for i, name in enumerate(dict.fromkeys(map(_category, shown)))}
    for one in bands if as_bands else []:
        _band(axes, one)
    for arm in STYLES:
        own = [one for one in shown if one.arm == arm]
        _scatter(
            axes, arm, [x + places[_category(one)] for one, x in zip(own, _spread(own), strict=True)], own, len(shown)
        )
    _name_places(axes, list(places))
    axes.grid(axis="y", alpha=0.3)
    return _png(figure, axes, metric)


def front_plot(points: Sequence[Point], cost: Cost, metric: Metric, title: str) -> bytes:
    """A PNG of what arms reach at which cost, with the front that none beats; those of unknown cost are left out."""
    figure, axes = _canvas(title)
    shown = [one for one in points if getattr(one, cost) is not None]
    front = [points[i] for i in best(points, cost, metric)]
    x = [getattr(one, cost) for one in front]
    to_the_right = max(getattr(one, cost) for one in shown)
    values = [one.value for one in front]
    axes.step(
        [*x, to_the_right], [*values, values[-1]], where="post", color="#8a929c", linestyle=":", label="front", zorder=1
    )
    for arm in STYLES:
        own = [one for one in shown if one.arm == arm]
        _scatter(axes, arm, [getattr(one, cost) for one in own], own, len(shown))
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wider = max(1.0, math.sqrt(SPAN * low / high))
    axes.set_xlim(low / wider, high * wider)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(COST_LABELS[cost])
    axes.grid(alpha=0.3)
    return _png(figure, axes, metric)


def _name_places(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > NAMED:
        axes.set_xticks([])
        axes.set_xlabel("recipes in the order of the study")
    elif sum(map(len, names)) > LETTERS:
        axes.set_xticks(range(len(names)), [_plain(name) for name in names], rotation=30, ha="right")
    else:
        axes.set_xticks(range(len(names)), [_plain(name) for name in names])
    axes.set_xlim(-0.5, max(len(names), 1) - 0.5)


def _canvas(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(_plain(title), wrap=True)
    return figure, axes


def _plain(text: str) -> str:
    """Text that can be drawn, in which a dollar begins no formula."""
    return text.encode("utf-8", "replace").decode().replace("$", r"\$")


def _category(one: Point) -> str:
    return one.recipe or STYLES[one.arm][0]


def _spread(own: Sequence[Point]) -> list[float]:
    """The offset of each point of one arm from its recipe's place, so that equal points do not hide each other."""
    crowds: dict[str, list[int]] = {}
    for i, one in enumerate(own):
        crowds.setdefault(_category(one), []).append(i)
    aside = [0.0] * len(own)
    for crowd in crowds.values():
        for k, i in enumerate(crowd):
            aside[i] = STYLES[own[i].arm][3] + (0.2 * (k / (len(crowd) - 1) - 0.5) if len(crowd) > 1 else 0.0)
    return aside


def _scatter(axes: Axes, arm: Arm, x: Sequence[float], own: Sequence[Point], of: int) -> None:
    if not own:
        return
    name, colour, marker, _ = STYLES[arm]
    ends = [[0.0 if end is None else abs(one.value - end) for end in (one.low, one.high)] for one in own]
    errors = None if of > CROWD else [*zip(*ends, strict=True)]
    size = 4 if of > CROWD else 6
    values = [one.value for one in own]
    axes.errorbar(
        x, values, errors, label=name, color=colour, marker=marker, markersize=size, linestyle="none", capsize=3
    )
    seeds = [(at, value) for at, one in zip(x, own, strict=True) for value in one.seeds]
    if seeds and of <= CROWD:
        axes.scatter(*zip(*seeds, strict=True), s=14, marker="_", color=colour)


def _band(axes: Axes, one: Point) -> None:
    name, colour, _, _ = STYLES[one.arm]
    axes.axhline(one.value, color=colour, linewidth=1.2, label=name)
    low, high = (min(one.seeds), max(one.seeds)) if one.seeds else (one.low, one.high)
    if low is not None and high is not None:
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)


def _png(figure: Figure, axes: Axes, metric: Metric) -> bytes:
    axes.set_ylabel(_plain(metric.label))
    (low, high), (least, most) = axes.get_ylim(), metric.range
    room = MARKER * (high - low)  # for half of a marker at the range's end
    axes.set_ylim(
        low if least is None else max(low, least - room),
        high if most is None else min(high, most + room),
    )
    axes.legend(loc="best", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
