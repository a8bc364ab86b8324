"""The effect of quantization on each layer, in the few bytes that a page can spare for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from qat.lab.report.html.curves import short
from qat.lab.runs.layers import OPERAND, sites_in

# The heights of a histogram, from none to the most: signs that JSON and HTML leave as they are.
HEIGHTS = "".join(sign for sign in map(chr, range(33, 127)) if sign not in "\"'\\<>&")
SIGNS = np.frombuffer(HEIGHTS.encode(), np.uint8)
EVEN = 1e-3  # of a bin: edges that differ less are evenly spaced

KNOWN = {*OPERAND, "histogram"}

type Bins = tuple[float | None, float | None, str]

NO_BINS: Bins = (None, None, "")


@dataclass(frozen=True)
class Operand:
    """One side of a site: how well its grid fits its values; the grid's range is `low` to `high`.

    `clipped` is the share of values outside of it, `sqnr_db` the signal to quantization-noise ratio. `counts` holds
    a sign for each of the bins between `first` and `last`; its place in `HEIGHTS` is the logarithm of the count.
    `more` are further numbers by name.
    """

    side: str
    kind: str
    bits: int | None
    low: float | None
    high: float | None
    clipped: float | None
    sqnr_db: float | None
    first: float | None
    last: float | None
    counts: str
    more: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Site:
    """One contraction and its operands; `sqnr_db` is that of its output."""

    id: str
    sqnr_db: float | None
    operands: tuple[Operand, ...]


def read_layers(folder: Path) -> tuple[Site, ...]:
    """The sites of the trial in a folder in order; none where its file is damaged."""
    return _read(folder, _histograms)


def read_bare(folder: Path) -> tuple[Site, ...]:
    """The sites without their histograms, in half the time."""
    return _read(folder, lambda found: [NO_BINS] * len(found))


def _read(folder: Path, histograms: Callable[[Sequence[Any]], list[Bins]]) -> tuple[Site, ...]:
    try:
        sites = sites_in(folder)
    except ValueError:
        return ()
    operands = [site["operands"] for site in sites]
    bins = iter(histograms([one.get("histogram") for found in operands for one in found]))
    made = [tuple(_operand(one, next(bins)) for one in found) for found in operands]
    return tuple(_site(site, found) for site, found in zip(sites, made, strict=True))


def heights(counts: Float[np.ndarray, "histograms bins"]) -> list[str]:
    """A sign per count on a log scale of its histogram: within 9 % of each count up to a million, and none is none."""
    logs = np.log1p(np.clip(counts, 0, None))
    top = logs.max(axis=1, keepdims=True, initial=np.finfo(np.float64).tiny)
    places = np.ceil(logs / top * (len(SIGNS) - 1) - 0.5)
    return [row.tobytes().decode() for row in SIGNS[places.astype(np.int64)]]


def _site(site: dict[str, Any], operands: tuple[Operand, ...]) -> Site:
    return Site(str(site.get("id", "?")), short(site.get("output_sqnr_db")), operands)


def _operand(operand: dict[str, Any], bins: Bins) -> Operand:
    bits = operand.get("bits")
    first, last, counts = bins
    return Operand(
        side=str(operand.get("side", "")),
        kind=str(operand.get("kind", "")),
        bits=bits if isinstance(bits, int) else None,
        low=short(operand.get("low")),
        high=short(operand.get("high")),
        clipped=short(operand.get("clipped"), 3),
        sqnr_db=short(operand.get("sqnr_db")),
        first=first,
        last=last,
        counts=counts,
        more=tuple((name, value) for name in operand.keys() - KNOWN if (value := short(operand[name])) is not None),
    )


def _histograms(found: Sequence[Any]) -> list[Bins]:
    """Ends and heights of each; together as long as all are alike and whole, which is much faster."""
    try:
        edges = np.array([one["edges"] for one in found], np.float64)
        counts = np.array([one["counts"] for one in found], np.float64)
    except (TypeError, KeyError, ValueError):
        return [NO_BINS] if len(found) == 1 else [_histograms([one])[0] for one in found]
    if edges.ndim != 2 or counts.shape != (len(edges), edges.shape[1] - 1) or not counts.size:
        return [NO_BINS] * len(found)
    if not (np.isfinite(edges).all() and np.isfinite(counts).all()):
        return [NO_BINS] if len(found) == 1 else [_histograms([one])[0] for one in found]
    signs = heights(_evenly(edges, counts))
    return [(short(row[0], 5), short(row[-1], 5), of) for row, of in zip(edges, signs, strict=True)]


def _evenly(
    edges: Float[np.ndarray, "histograms edges"], counts: Float[np.ndarray, "histograms bins"]
) -> Float[np.ndarray, "histograms bins"]:
    """The counts in evenly spaced bins from end to end, each spread over the bin that it had."""
    even = np.linspace(edges[:, 0], edges[:, -1], edges.shape[1], axis=1)
    width = np.abs(even[:, 1] - even[:, 0])
    counts = counts.copy()
    for i in np.flatnonzero(np.abs(even - edges).max(axis=1) > EVEN * width):
        counts[i] = np.diff(np.interp(even[i], edges[i], np.concatenate([[0.0], np.cumsum(counts[i])])))
    return counts
