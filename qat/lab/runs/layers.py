"""The effect of quantization on each layer: its sites, their operands, the histograms of these."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from qat.lab.runs.files import LAYERS_FILE
from qat.lab.runs.studies import Found, long_frame

SITE = ("id", "path", "op", "rule", "reason", "output_sqnr_db")
OPERAND = ("side", "kind", "key", "bits", "grid", "low", "high", "clipped", "sqnr_db")

type Json = dict[str, Any]


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
            return Found([row for site in json.loads(text)["sites"] for row in rows(site)])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Found((), (str(error),))

    return parse


def _operands(site: Json) -> Iterator[tuple]:
    about = tuple(site.get(name) for name in SITE)
    for operand in site.get("operands") or [{}]:
        yield (*about, *(operand.get(name) for name in OPERAND))


def _bins(site: Json) -> Iterator[tuple]:
    for operand in site.get("operands") or []:
        if (found := operand.get("histogram")) is not None:
            edges = found["edges"]
            for low, high, count in zip(edges, edges[1:], found["counts"], strict=False):
                yield site.get("id"), operand.get("side"), low, high, count
