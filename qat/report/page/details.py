"""The curves and layers of single trials, in a size that a page can hold however many trials there are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qat.files import LAYERS_FILE, METRICS_FILE
from qat.report.contents import Contents
from qat.report.page.curves import read_curves
from qat.report.page.layers import Site, read_layers
from qat.report.page.payload import fitting
from qat.report.reading import read

# Characters of JSON, before compression.
CURVE_BUDGET, LAYER_BUDGET, BIN_BUDGET = 5_000_000, 6_000_000, 2_500_000


@dataclass(frozen=True)
class Details:
    """What the charts of single trials draw, ready for JSON, by the trial's place in the study.

    `curves` name places in `series`, since trials share stages. `left_out` counts, by what they are of, the trials
    that did not fit: of those that differ in their seed, the later ones.
    """

    series: list[Any]
    curves: dict[int, list[int]]
    layers: dict[int, list[Any]]
    bins: dict[int, list[Any]]
    left_out: dict[str, int]


def details(contents: Contents, groups: Mapping[str, str]) -> Details:
    """What the folders of the trials hold; `groups` names each trial's group, by id."""
    order = [(i, contents.folder(trial)) for i, trial in _first_seeds_first(groups)]
    curves = {i: found for i, folder in order if (found := _read(contents, read_curves, folder / METRICS_FILE))}
    layers = {i: found for i, folder in order if (found := _read(contents, read_layers, folder / LAYERS_FILE))}
    series = {curve: [curve.stage, curve.steps, dict(curve.values)] for stages in curves.values() for curve in stages}
    kept = fitting(series.items(), CURVE_BUDGET)
    places = {curve: k for k, curve in enumerate(kept)}
    whole = {i: [places[curve] for curve in stages] for i, stages in curves.items() if all(c in places for c in stages)}
    facts = fitting(((i, [_facts(site) for site in sites]) for i, sites in layers.items()), LAYER_BUDGET)
    bins = fitting(((i, [_bins(site) for site in layers[i]]) for i in facts), BIN_BUDGET)
    left_out = {
        "training curves": len(curves) - len(whole),
        "errors by layer": len(layers) - len(facts),
        "histograms": len(layers) - len(bins),
    }
    return Details(list(kept.values()), whole, facts, bins, left_out)


def _read[T](contents: Contents, load: Callable[[Path], T], path: Path) -> T | None:
    """What is in a trial's file; of a damaged one None."""
    spoilt = any(path.name in line for line in contents.spoilt.get(path.parent.name, ()))
    return None if spoilt else read(load, path)


def _first_seeds_first(groups: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Places and ids of the trials: the first of each group, then the second of each, and so on."""
    before: dict[str, int] = {}
    ranked = []
    for i, (trial, group) in enumerate(groups.items()):
        before[group] = before.get(group, -1) + 1
        ranked.append((before[group], i, trial))
    yield from ((i, trial) for _, i, trial in sorted(ranked))


def _facts(site: Site) -> list[Any]:
    operands = [[o.side, o.kind, o.bits, o.low, o.high, o.clipped, o.sqnr_db] for o in site.operands]
    return [site.id, site.sqnr_db, operands]


def _bins(site: Site) -> list[Any]:
    return [[o.first, o.last, o.counts] for o in site.operands]
