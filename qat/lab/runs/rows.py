"""Rows for sinks from a trial's folder: the curves of its training, and a row for every quantized operand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qat.lab.runs.files import LAYERS_FILE, METRICS_FILE

SITE = ("id", "op", "rule")
OPERAND = ("side", "kind", "bits", "grid", "low", "high", "clipped", "sqnr_db")


def curves(folder: Path) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Stage, step and values of every line of `metrics.jsonl`; one that is not whole ends them."""
    try:
        text = (folder / METRICS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            point = json.loads(line)
            stage, step = str(point.pop("stage")), int(point.pop("step"))
        except (ValueError, KeyError, AttributeError):
            return
        yield stage, step, {name: value for name, value in point.items() if isinstance(value, int | float)}


def layers(folder: Path) -> list[dict[str, Any]]:
    """A row for every operand that `layers.json` has; none where there is no such file."""
    try:
        found = json.loads((folder / LAYERS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [
        {name: site.get(name) for name in SITE}
        | {name: operand.get(name) for name in OPERAND}
        | {"output_sqnr_db": site.get("output_sqnr_db")}
        for site in found["sites"]
        for operand in site["operands"]
    ]
