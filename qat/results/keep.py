"""A study's measured table for a repository: one row for each arm and seed, as a CSV file."""

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qat.results.studies import find
from qat.results.trials import load
from qat.storage import write_atomically

DIGITS = 5
ARM = "label.arm"


def keep(runs: str | Path, file: Path, metrics: Sequence[str]) -> pd.DataFrame:
    """Write the finished trials of a study to `file`, and return what was written.

    Columns: `arm` (the label on the axis of this name, where the study has it), `recipe`, `seed`, the `metrics` in the
    task's own units, each under its name or, written `column=name`, under another, `size_bytes`, `float_size_bytes` of
    the model that the trial started from, and `latency_ratio`, a call's time by that of the float model in the same
    run (empty where it was not measured). `attrs["damaged"]` of what is returned names damaged files. Raises
    `ValueError` for unfinished trials, and for a metric that they lack.
    """
    frame = load(runs)
    studies = find(runs)
    if missing := sum(1 for _ in studies.trials()) - len(frame) + len(studies.damaged):
        told = "".join(f"\n  {line}" for line in frame.attrs["damaged"])
        raise ValueError(
            f"`runs` must be a finished study, but {missing} of its trials are not. Run the sweep again to its end."
            f"{told}"
        )
    known = [name.removeprefix("metric.") for name in frame.columns if name.startswith("metric.")]
    columns = dict(_column(metric) for metric in metrics)
    if unknown := [name for name in columns.values() if name not in known]:
        raise ValueError(f"`metrics`: no trial has {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    rows = frame.to_dict("records")
    sizes = {row["lineage.float_stage"]: row["size_bytes"] for row in rows if row["arm"] == "float"}
    kept = pd.DataFrame(
        {
            "arm": frame["arm"] if ARM not in frame else frame[ARM].fillna(frame["arm"]),
            **{name: frame[name] for name in ("recipe", "seed")},
            **{column: frame[f"metric.{name}"].round(DIGITS) for column, name in columns.items()},
            "size_bytes": frame["size_bytes"],
            "float_size_bytes": pd.array([sizes.get(row["lineage.float_stage"]) for row in rows], "Int64"),
            "latency_ratio": [_ratio(row) for row in rows],
        }
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    kept.attrs = {"damaged": frame.attrs["damaged"]}
    write_atomically(file, kept.to_csv(index=False, lineterminator="\n"))
    return kept


def _column(metric: str) -> tuple[str, str]:
    column, _, name = metric.rpartition("=")
    return column or name, name


def _ratio(row: Mapping[Hashable, Any]) -> float:
    served, floating = (row.get(f"timing.{name}", math.nan) for name in ("latency_ms", "float_latency_ms"))
    return round(served / floating, 3)
