"""What the page's scripts work on, as elements of the page."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qat.report.contents import Contents
from qat.report.page.details import Details
from qat.report.page.layers import HEIGHTS
from qat.report.page.markup import Html, tag
from qat.report.page.payload import embedded, packed
from qat.report.page.trials import chosen, group_of, table
from qat.report.points import COSTS, CROWD, NAMED, SPAN, best, comparable, points
from qat.report.summary import Row


def data(contents: Contents, rows: Sequence[Row], inner: Details) -> list[Html]:
    """The table and the arms as JSON; curves, layers and histograms compressed, to be read when they are shown."""
    curves = {"series": inner.series, "curves": inner.curves, "layers": inner.layers}
    return [
        tag("script", Html(embedded(_plain(contents, rows, inner))), type="application/json", id="data"),
        tag("script", Html(packed(curves)), type="text/plain", id="details"),
        tag("script", Html(packed(inner.bins)), type="text/plain", id="bins"),
    ]


def _plain(contents: Contents, rows: Sequence[Row], inner: Details) -> dict[str, Any]:
    """By trial, all lists are in the study's order."""
    groups, found = group_of(contents, rows), points(rows)
    names = list(dict.fromkeys(groups.values()))
    place = {name: k for k, name in enumerate(names)}
    arms = {groups[trial]: record.arm for trial, record in contents.records.items()}
    return {
        "study": contents.name,
        "metric": next((row.scale.heading for row in comparable(rows)), ""),
        "range": next((row.scale.range for row in comparable(rows)), None),
        "points": [asdict(point) for point in found],
        "fronts": {cost: best(found, cost) for cost in COSTS},
        "crowd": CROWD,
        "span": SPAN,
        "named": NAMED,
        "groups": [{"label": name, "arm": arms.get(name)} for name in names],
        "names": list(contents.trials),
        "group": [place[name] for name in groups.values()],
        "seeds": [_seed(contents, trial) for trial in contents.trials],
        "drawable": [i in inner.curves or i in inner.layers for i in range(len(contents.trials))],
        "chosen": chosen(contents),
        "trials": table(contents),
        "heights": HEIGHTS,
    }


def _seed(contents: Contents, trial: str) -> str | None:
    label, record = contents.trials[trial].get("seed"), contents.records.get(trial)
    if label is None:
        return f"seed {record.seed}" if record else None
    return label if "seed" in label.lower() else f"seed {label}"
