"""The page's section on how settings and machines differ: between two arms or trials, and along a study's axes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qat.lab.report.axes import LEAST, axes, settings
from qat.lab.report.contents import Contents
from qat.lab.report.html.markup import Html, canvas, join, tag
from qat.lab.report.html.trials import flattened
from qat.lab.report.pairing import main_metric
from qat.lab.report.summary import Row
from qat.lab.runs.cache import config_in
from qat.lab.runs.record import Record

IMPORTANCE = (
    "Each line is an arm, from its place on each axis to its result, the mean of its seeds. Axes come by importance: "
    "the share of the variance over trials that each explains by itself (epsilon squared); shares need not make 100 %."
)
FEW = f"Axes are drawn where a study varies {LEAST} or more beside the seed; this one varies fewer."


def differences(contents: Contents) -> Html:
    """The places of the table of two sides, and of the picture of the axes."""
    sides = [
        tag(
            "label",
            title,
            tag("input", type="search", id=name, list_="names", autocomplete="off", spellcheck="false"),
            class_="wide",
        )
        for title, name in (("One arm or trial", "left"), ("Another", "right"))
    ]
    box = tag("div", id="differences", class_="box", tabindex="0", role="region", aria_label="Differences")
    found = axes(list(contents.records.values()))
    picture = [tag("figure", tag("figcaption", tag("b", "The axes and the result"), IMPORTANCE), canvas("axes"))]
    return join(
        tag("div", *sides, class_="controls"),
        tag("p", id="differences-note", class_="faint", role="status"),
        box,
        *(picture if found else [tag("p", FEW, class_="faint")]),
    )


def facts(contents: Contents) -> dict[str, Any]:
    """Settings and manifests, as far as they are not the same in all trials: of each fact its `values`, and of each
    trial, in the study's order, the place of its own (None: it does not have it)."""
    flat = [_facts(contents, trial) for trial in contents.trials]
    found = []
    for name in dict.fromkeys(name for one in flat for name in one):
        values = list(dict.fromkeys(one[name] for one in flat if name in one))
        if len(values) > 1 or not all(name in one for one in flat if one):
            places = {value: k for k, value in enumerate(values)}
            at = [places[one[name]] if name in one else None for one in flat]
            found.append({"name": name, "values": values, "at": at})
    return {"facts": found, "known": [bool(one) for one in flat]}


def lines(contents: Contents, rows: Sequence[Row]) -> dict[str, Any]:
    """The axes and each arm's place on them, with its result and its label."""
    records = contents.records
    found = axes(list(records.values()))
    arms = [row for row in rows if found and row.score.n and row.metric == rows[0].metric]
    return {
        "axes": [asdict(one) for one in found],
        "arms": [{"label": row.name, "value": row.score.mean, "places": _places(row, records, found)} for row in arms],
    }


def _places(row: Row, records: Mapping[str, Record], found: Sequence[Any]) -> list[float | None]:
    first = next(records[trial] for trial in row.trials if main_metric(records[trial]) is not None)
    return settings(first, found)


def _facts(contents: Contents, trial: str) -> dict[str, str]:
    config = config_in(contents.folder(trial))
    manifest = contents.manifests.get(trial, {})
    found = [(name, "none" if value == "unknown" else value) for name, value in flattened(config, "config")]
    return dict(found + flattened(manifest, "machine"))
