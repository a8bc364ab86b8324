"""Figures of kept studies as SVG text, drawn by hand so that a page needs no script."""

import math
import statistics
from collections.abc import Callable
from html import escape

from qat.lab.stats import Estimate
from sitegen.results import Arm, Table, difference, shown, unit

LEFT, WIDTH, ROW, HEAD = 220, 760, 20, 34
"""Pixels: where the axis begins and ends, height of a row, of a panel's head."""
FAR = 5
"""Times the median difference of a panel, beyond which an arm is off its axis."""
THICK = 'stroke-width="2" opacity="0.7"'


def forest(table: Table) -> str:
    """Differences of the main metric from float with their intervals, a panel for each number of bits, each with an
    axis of its own; arms far beyond the others are named with their number, as in one axis they would hide all."""
    metric = table.metrics[0]
    panels = {}
    for arm in table.arms.values():
        found = difference(arm, table.arms["float"], metric) if arm.name != "float" else None
        if found is not None:
            panels.setdefault(arm.bits or "float arms", []).append((arm, found))
    body, top = [], 0
    for title, rows in panels.items():
        body.append(f'<g transform="translate(0,{top})">{_panel(title, rows)}</g>')
        top += HEAD + ROW * len(rows) + 30
    label = escape(f"{metric} of each arm less that of the float model{', points' if unit(metric) else ''}")
    return (
        f'<figure class="drawn"><svg viewBox="0 0 {WIDTH + 20} {top}" role="img" aria-label="{label}" '
        f'font-family="sans-serif" font-size="12" fill="currentColor">{"".join(body)}</svg>'
        f"<figcaption>{label}: means and 95 % intervals over seeds.</figcaption></figure>"
    )


def _panel(title: str, rows: list[tuple[Arm, Estimate]]) -> str:
    far = FAR * max(statistics.median(abs(found.mean) for _, found in rows), 0.1)
    low, high = _bounds([found for _, found in rows if abs(found.mean) <= far])

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT)

    bottom = HEAD + ROW * len(rows)
    parts = [
        f'<text x="0" y="20" font-weight="bold">{escape(title)}</text>',
        _line(x(0), 26, x(0), bottom, 'stroke-dasharray="3 3" opacity="0.6"'),
        _line(LEFT, bottom, WIDTH, bottom, 'opacity="0.6"'),
    ]
    for value in _ticks(low, high):
        parts.append(_line(x(value), bottom, x(value), bottom + 4, ""))
        parts.append(f'<text x="{x(value):.1f}" y="{bottom + 17}" text-anchor="middle">{value:+g}</text>')
    for number, (arm, found) in enumerate(rows):
        y = HEAD + ROW * number + ROW / 2
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(arm.method)}</text>')
        parts.append(_far(found, y) if abs(found.mean) > far else _mark(found, x, y))
    return "".join(parts)


def _far(found: Estimate, y: float) -> str:
    """An arm beyond the axis: an arrow at its end, and the number."""
    text = f"◀ {shown(found, sign=True)}" if found.mean < 0 else f"{shown(found, sign=True)} ▶"
    place, anchor = (LEFT, "start") if found.mean < 0 else (WIDTH, "end")
    return f'<text x="{place}" y="{y + 4}" text-anchor="{anchor}">{text}</text>'


def _mark(found: Estimate, x: Callable[[float], float], y: float) -> str:
    """A mean with its interval."""
    ends = "" if found.low is None or found.high is None else _line(x(found.low), y, x(found.high), y, THICK)
    return f'{ends}<circle cx="{x(found.mean):.1f}" cy="{y}" r="4"><title>{shown(found, sign=True)}</title></circle>'


def _line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" {more}/>'


def _bounds(found: list[Estimate]) -> tuple[float, float]:
    """The ends of an axis on which all intervals and zero lie."""
    values = [value for one in found for value in (one.mean, one.low, one.high) if value is not None] + [0.0]
    room = 0.04 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room


def _ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between the ends of an axis, eight at most."""
    power = 10.0 ** math.floor(math.log10((high - low) / 8))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if (high - low) / step <= 8)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
