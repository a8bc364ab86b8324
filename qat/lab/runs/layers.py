"""The effect of quantization on each layer: `layers.json`, with its sites, their operands, the histograms of these."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from qat.analysis.layers import Layers
from qat.fileio import write_atomically
from qat.lab.runs.files import LAYERS_FILE
from qat.lab.runs.studies import Found, long_frame

SITE = ("id", "path", "op", "rule", "reason", "output_sqnr_db")
OPERAND = ("side", "kind", "key", "bits", "grid", "low", "high", "clipped", "sqnr_db")

type Json = dict[str, Any]


def write_layers(folder: Path, found: Layers) -> None:
    """Write the statistics of a trial's layers into its folder."""
    write_atomically(folder / LAYERS_FILE, found.to_json())


def sites_of(text: str | bytes) -> list[Json]:
    """The sites in a file's text, each with `operands`, of which older files may lack fields. Raises `ValueError`."""
    try:
        found = json.loads(text)["sites"]
        return [{**site, "operands": [dict(one) for one in site.get("operands") or []]} for site in found]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def sites_in(folder: Path) -> list[Json]:
    """The sites that a trial's folder tells of; none where its file is missing. Raises `ValueError` for a damaged
    one."""
    try:
        return sites_of((folder / LAYERS_FILE).read_bytes())
    except FileNotFoundError:
        return []


def operands_in(folder: Path) -> list[Json]:
    """A row for every quantized operand that a trial's folder tells of: the site's `id`, `op`, `rule` and
    `output_sqnr_db`, and its own numbers without the histogram."""
    shared = ("id", "op", "rule", "output_sqnr_db")
    own = [name for name in OPERAND if name != "key"]
    return [
        {name: site.get(name) for name in shared} | {name: operand.get(name) for name in own}
        for site in sites_in(folder)
        for operand in site["operands"]
    ]


def layers(path: str | Path) -> pd.DataFrame:
    """One row for each operand of each site of each quantized trial; a site in float has one without a side.

    Columns: `study`, `trial`; `site` (its id), `path`, `op`, `rule`, `reason`, `output_sqnr_db`; and of the operand
    `side`, `kind`, `key`, `bits`, `grid`, `low`, `high`, `clipped` (a fraction) and `sqnr_db`. Signal to noise is in
    dB. Damage is named in `frame.attrs["damaged"]`.
    """
    return long_frame(path, LAYERS_FILE, ["site", *SITE[1:], *OPERAND], _parser(_operands))


def histograms(path: str | Path) -> pd.DataFrame:
    """One row for each bin of each operand's histogram: `study`, `trial`, `site`, `side`, `low`, `high`, `count`."""
    return long_frame(path, LAYERS_FILE, ["site", "side", "low", "high", "count"], _parser(_bins))


def _parser(rows: Callable[[Json], Iterator[tuple]]) -> Callable[[str], Found]:
    def parse(text: str) -> Found:
        try:
            return Found([row for site in sites_of(text) for row in rows(site)])
        except (ValueError, KeyError, TypeError) as error:
            return Found((), (str(error),))

    return parse


def _operands(site: Json) -> Iterator[tuple]:
    about = tuple(site.get(name) for name in SITE)
    for operand in site["operands"] or [{}]:
        yield (*about, *(operand.get(name) for name in OPERAND))


def _bins(site: Json) -> Iterator[tuple]:
    for operand in site["operands"]:
        if (found := operand.get("histogram")) is not None:
            edges = found["edges"]
            for low, high, count in zip(edges, edges[1:], found["counts"], strict=False):
                yield site.get("id"), operand.get("side"), low, high, count
