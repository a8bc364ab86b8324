"""Data of the page's scripts, as elements of the page."""

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from qat.lab.report.contents import Contents
from qat.lab.report.forest import CHANGES, DECLARED, bars
from qat.lab.report.html.curves import read_curves
from qat.lab.report.html.differences import lines
from qat.lab.report.html.layers import HEIGHTS, Site, read_bare, read_layers
from qat.lab.report.html.markup import Html, tag
from qat.lab.report.html.trials import chosen, group_of, table
from qat.lab.report.pairing import Baselines
from qat.lab.report.pareto import COSTS, CROWD, NAMED, SPAN, best, comparable, points
from qat.lab.report.summary import Row
from qat.lab.runs.cache import from_curves, from_layers
from qat.lab.runs.record import Record
from qat.lab.stats.estimates import CONFIDENCE

# Characters of JSON, before compression.
MOST_SEEDS = 1000  # of one arm
CURVE_BUDGET, LAYER_BUDGET, BIN_BUDGET = 5_000_000, 6_000_000, 2_500_000


@dataclass(frozen=True)
class Details:
    """Data of the charts of single trials, ready for JSON, by the trial's place in the study.

    `curves` name places in `series`, since trials share stages. `left_out` counts, by what they are of, the trials
    that did not fit: of those that differ in their seed, the later ones.
    """

    series: list[Any]
    curves: dict[int, list[int]]
    layers: dict[int, list[Any]]
    bins: dict[int, list[Any]]
    left_out: dict[str, int]


def details(contents: Contents, groups: Mapping[str, str]) -> Details:
    """Read the trials' folders for the charts; `groups` names each trial's group, by id."""
    order = [(i, contents.folder(trial)) for i, trial in _first_seeds_first(groups)]
    curves = {i: found for i, folder in order if (found := from_curves(read_curves, folder))}
    layers, bins = _layers(order)
    series = {curve: [curve.stage, curve.steps, dict(curve.values)] for stages in curves.values() for curve in stages}
    kept = fitting(series.items(), CURVE_BUDGET)
    places = {curve: k for k, curve in enumerate(kept)}
    whole = {i: [places[curve] for curve in stages] for i, stages in curves.items() if all(c in places for c in stages)}
    facts = fitting(((i, [_facts(site) for site in sites]) for i, sites in layers.items()), LAYER_BUDGET)
    bins = {i: found for i, found in bins.items() if i in facts}
    left_out = {
        "training curves": len(curves) - len(whole),
        "errors by layer": len(layers) - len(facts),
        "histograms": len(layers) - len(bins),
    }
    return Details(list(kept.values()), whole, facts, bins, left_out)


def _layers(order: Iterable[tuple[int, Path]]) -> tuple[dict[int, tuple[Site, ...]], dict[int, list[Any]]]:
    """The sites of all trials, and the histograms of the first ones that fit: those of others are not worked out."""
    layers, bins, left = {}, {}, BIN_BUDGET
    for i, folder in order:
        found = from_layers(read_layers if left >= 0 else read_bare, folder)
        if not found:
            continue
        layers[i] = found
        if left >= 0:
            made = [_bins(site) for site in found]
            left -= len(compact(made))
            bins |= {i: made} if left >= 0 else {}
    return layers, bins


def _first_seeds_first(groups: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Places and ids of the trials: the first of each group, then the second of each, and so on."""
    before: dict[str, int] = {}
    ranked = []
    for i, (trial, group) in enumerate(groups.items()):
        before[group] = before.get(group, -1) + 1
        ranked.append((before[group], i, trial))
    yield from ((i, trial) for _, i, trial in sorted(ranked))


def _facts(site: Site) -> list[Any]:
    operands = [
        [o.side, o.kind, o.bits, o.low, o.high, o.clipped, o.sqnr_db, *([dict(o.more)] if o.more else [])]
        for o in site.operands
    ]
    return [site.id, site.sqnr_db, operands]


def _bins(site: Site) -> list[Any]:
    return [[o.first, o.last, o.counts] for o in site.operands]


def data(contents: Contents, rows: Sequence[Row], inner: Details) -> list[Html]:
    """The table and the arms as JSON; curves, layers and histograms compressed, to be read when they are shown."""
    curves = {"series": inner.series, "curves": inner.curves, "layers": inner.layers}
    return [
        tag("script", Html(embedded(_plain(contents, rows, inner))), type="application/json", id="data"),
        attached("details", curves),
        attached("bins", inner.bins),
    ]


def attached(name: str, value: Any) -> Html:
    """A value for the scripts, compressed, to be read when it is shown."""
    return tag("script", Html(packed(value)), type="text/plain", id=name)


def _plain(contents: Contents, rows: Sequence[Row], inner: Details) -> dict[str, Any]:
    """Plain data of the trials, all lists in the study's order."""
    groups, found = group_of(contents, rows), points(rows)
    metric = next((row.metric for row in comparable(rows)), None)
    names = list(dict.fromkeys(groups.values()))
    place = {name: k for k, name in enumerate(names)}
    arms = {groups[trial]: record.arm for trial, record in contents.records.items()}
    return {
        "study": contents.name,
        "metric": metric.heading if metric else "",
        "axis": metric.label if metric else "",
        "decimals": metric and metric.decimals,
        "margin": metric and metric.margin,
        "better": metric and metric.better,
        "range": metric and metric.range,
        "points": [asdict(point) for point in found],
        "fronts": {cost: best(found, cost, metric) if metric else [] for cost in COSTS},
        "forest": [asdict(bar) for bar in bars(rows, CHANGES if contents.compares else DECLARED)],
        "crowd": CROWD,
        "span": SPAN,
        "named": NAMED,
        "groups": [{"label": name, "arm": arms.get(name)} for name in names],
        "names": list(contents.trials),
        "group": [place[name] for name in groups.values()],
        "seeds": [_seed(contents, trial) for trial in contents.trials],
        "axes": lines(contents, rows),
        "kin": _kin(contents),
        "t": _quantiles(contents.trials),
        "drawable": [i in inner.curves or i in inner.layers for i in range(len(contents.trials))],
        "chosen": chosen(contents),
        "trials": table(contents),
        "heights": HEIGHTS,
    }


def _kin(contents: Contents) -> list[list[int | None]]:
    """Of each trial the places of its float model, control and PTQ, None where it has none."""
    places = {trial: i for i, trial in enumerate(contents.trials)}
    baselines = Baselines(contents.records.values())

    def place(record: Record | None) -> int | None:
        return None if record is None else places[record.trial]

    return [
        [place(of(record)) for of in (baselines.float_, baselines.control, baselines.ptq)] if record else [None] * 3
        for record in map(contents.records.get, contents.trials)
    ]


def _quantiles(trials: Sized) -> list[float]:
    """Student's t for 95 % intervals by degrees of freedom, from 1 to those of as many seeds as an arm can have."""
    freedom = np.arange(1, max(2, min(len(trials), MOST_SEEDS)))
    return [round(float(t), 6) for t in stats.t.isf((1 - CONFIDENCE) / 2, freedom)]


def _seed(contents: Contents, trial: str) -> str | None:
    label, record = contents.trials[trial].get("seed"), contents.records.get(trial)
    if label is None:
        return f"seed {record.seed}" if record else None
    return label if "seed" in label.lower() else f"seed {label}"


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def embedded(value: Any) -> str:
    """JSON that stays data inside a `<script>` element: no sign in it begins or ends markup."""
    text = compact(value)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def packed(value: Any) -> str:
    """JSON compressed by gzip, in base64; the same value makes the same text."""
    return base64.b64encode(gzip.compress(compact(value).encode(), 6, mtime=0)).decode()


def fitting[K, V](values: Iterable[tuple[K, V]], budget: int) -> dict[K, V]:
    """The first values, by key, that take no more than `budget` characters of JSON together."""
    kept = {}
    for key, value in values:
        budget -= len(compact(value))
        if budget < 0:
            break
        kept[key] = value
    return kept
