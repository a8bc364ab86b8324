"""One row for each finished trial."""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qat.fileio import is_local, write_atomically
from qat.lab.jobs.log import read_failure
from qat.lab.runs.files import CONFIG_FILE, fault
from qat.lab.runs.record import Record, read_record, read_sealed_record
from qat.lab.runs.settings import read_config
from qat.lab.runs.speed import speeds
from qat.lab.runs.studies import find, read_all

RECORDED = ("arm", "recipe", "seed")  # settings that the record has too

type Cells = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Contents of a trial's folder; `failed` of one that is not finished says that it was given up."""

    folder: Path
    record: Record | None
    config: Cells | None
    failed: bool
    problems: tuple[str, ...]


def load(path: str | Path) -> pd.DataFrame:
    """One row for each finished trial, in the studies' order; `path` is a study's folder, or one that holds several.

    Columns: `study`, `trial`, `arm`, `recipe`, `seed`; `label.<axis>`; `main_metric` (its name), `main_metric_better`
    (`higher` or `lower`) and `metric.<name>` in the task's own units; `examples`, `size_bytes`; `high_bit_layers`,
    with blanks between; `operations.<bits>`, the share of multiplications at bits such as `4x8`; `timing.<name>`;
    `config.<dotted.path>` of every setting that is not the same in all trials; `lineage.float_stage`,
    `lineage.control`, `lineage.group`, `key`, `schema`; and `folder`. What a trial does not have is missing.

    `frame.attrs` holds how many trials are `finished`, `failed` (given up, with the reason in `failure.json`) and
    `unfinished` (neither), and as `damaged` a line for every file that is not as it was written; what cannot be read is
    passed over. Of files that this does not read, such as the model, the size is compared. Raises `ValueError` where
    `path` holds no study.
    """
    studies = find(path)
    counts = {"finished": 0, "failed": 0, "unfinished": 0}
    names, trials, damaged = [], [], list(studies.damaged)
    for study, trial_id, trial in read_all(studies, _read):
        damaged += trial.problems
        if trial.record is not None:
            counts["finished"] += 1
            names.append((study, trial_id))
            trials.append(trial)
        elif not trial.problems:
            counts["failed" if trial.failed else "unfinished"] += 1
    frame = pd.DataFrame(_columns(names, trials))
    frame.attrs = {**counts, "damaged": damaged}
    return frame


def _read(folder: Path) -> Trial:
    try:
        found = read_sealed_record(folder)
    except ValueError as error:
        return Trial(folder, None, None, False, (str(error),))
    except OSError as error:
        return Trial(folder, None, None, False, (f"{str(folder)!r} cannot be read ({error.strerror or error}).",))
    if found is None:
        return Trial(folder, None, None, read_failure(folder) is not None, ())
    record, digests = found
    by_size = [name for name in digests if name != CONFIG_FILE] if is_local(folder) else []
    problems = [line for name in by_size if (line := fault(folder / name, digests, by_size=True))]
    try:
        if line := fault(folder / CONFIG_FILE, digests):
            raise ValueError(line)
        config = read_config(folder)
        return Trial(folder, record, None if config is None else dict(_leaves(config, "")), False, tuple(problems))
    except ValueError as error:
        return Trial(folder, record, None, False, (str(error), *problems))


def _leaves(settings: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    leaves = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            leaves += _leaves(value, f"{prefix}{name}.")
        else:
            leaves.append((prefix + name, value if not isinstance(value, dict | list) else json.dumps(value)))
    return leaves


def _columns(names: Sequence[tuple[str, str]], trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """The frame's columns in order."""
    records = [trial.record for trial in trials if trial.record is not None]
    return {
        "study": [study for study, _ in names],
        "trial": [trial_id for _, trial_id in names],
        "arm": [record.arm for record in records],
        "recipe": [record.recipe for record in records],
        "seed": [record.seed for record in records],
        **_spread("label", [record.labels for record in records]),
        "main_metric": [record.metric.name for record in records],
        "main_metric_better": [record.metric.better for record in records],
        **_spread("metric", [record.metrics for record in records]),
        "examples": [record.examples for record in records],
        "size_bytes": [record.size_bytes for record in records],
        "high_bit_layers": [" ".join(record.high_bit_layers) for record in records],
        **_spread("operations", [record.operations for record in records]),
        **_spread("timing", [record.timings for record in records]),
        **_spread("config", _differing([trial.config for trial in trials])),
        "lineage.float_stage": [record.lineage.float_stage for record in records],
        "lineage.control": [record.lineage.control for record in records],
        "lineage.group": [record.lineage.group for record in records],
        "key": [record.key for record in records],
        "schema": [record.schema_version for record in records],
        "folder": [str(trial.folder) for trial in trials],
    }


def _spread(prefix: str, found: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A column for each name that any of the mappings has."""
    names = dict.fromkeys(name for one in found for name in one)
    return {f"{prefix}.{name}": [one.get(name) for one in found] for name in names}


def _differing(configs: Sequence[Cells | None]) -> list[Cells]:
    """The settings of each config that are not the same in all that could be read."""
    known = [config for config in configs if config is not None]
    paths = dict.fromkeys(path for config in known for path in config if path not in RECORDED)
    parents = {
        path[:i] for path in paths for i, sign in enumerate(path) if sign == "."
    }  # None in some, fields in others
    kept = [
        path
        for path in paths
        if path not in parents and any(config.get(path) != known[0].get(path) for config in known)
    ]
    return [{} if config is None else {path: config[path] for path in kept if path in config} for config in configs]


DIGITS = 5
ARM = "label.arm"


def keep(runs: str | Path, file: Path, metrics: Sequence[str]) -> pd.DataFrame:
    """Write the finished trials of a study to `file`, and return what was written.

    Columns: `arm` (the label on the axis of this name, where the study has it), `recipe`, `seed`, the `metrics` in the
    task's own units, each under its name or, written `column=name`, under another; of the main metric, where it is
    among them, `<column>_drop_from_float` and `<column>_drop_from_control`, each trial's from the float model that it
    starts from and from that model trained on as long (positive is worse, empty where there is none); `size_bytes`,
    `float_size_bytes` of the model that the trial started from, and `latency_ratio`, a call's time by that of the float
    model in the same run, with quartiles `latency_ratio_low` and `_high`: one measurement for all trials of a program
    (empty where it was not measured, or calls are too short to tell); where trials have them also `operations`, the
    shares of multiplications by bits of weights and activations, such as `4x4=0.77 8x8=0.23`, and `high_bit_layers`,
    those that got 8 bits for their sensitivity, with blanks between. `attrs["damaged"]` of what is returned names
    damaged files.
    Raises `ValueError` for unfinished trials, and for a metric that they lack.
    """
    frame = load(runs)
    studies = find(runs)
    if missing := sum(1 for _ in studies.trials()) - len(frame) + len(studies.damaged):
        listed = "".join(f"\n  {line}" for line in frame.attrs["damaged"])
        raise ValueError(
            f"`runs` must be a finished study, but {missing} of its trials are not. Run the sweep again to its end."
            f"{listed}"
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
            **_drops(rows, columns),
            "size_bytes": frame["size_bytes"],
            "float_size_bytes": pd.array([sizes.get(row["lineage.float_stage"]) for row in rows], "Int64"),
            **_ratios(rows, list(studies.trials())),
            **{name: column for name, column in _bits(rows).items() if any(column)},
        }
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    kept.attrs = {"damaged": frame.attrs["damaged"]}
    write_atomically(file, kept.to_csv(index=False, lineterminator="\n"))
    return kept


def _drops(rows: Sequence[Mapping[Hashable, Any]], columns: Mapping[str, str]) -> dict[str, list[float]]:
    """Columns on how much worse the trials are than their float model and their control."""
    found = {}
    for column, name in columns.items():
        if any(name != row["main_metric"] for row in rows):
            continue
        for arm, link in (("float", "lineage.float_stage"), ("control", "lineage.control")):
            others = {row[link]: row[f"metric.{name}"] for row in rows if row["arm"] == arm}
            found[f"{column}_drop_from_{arm}"] = [
                math.nan if row["arm"] == arm else _drop(row, name, others.get(row[link], math.nan)) for row in rows
            ]
    return {name: drops for name, drops in found.items() if not all(map(math.isnan, drops))}


def _drop(row: Mapping[Hashable, Any], name: str, baseline: float) -> float:
    worse = baseline - row[f"metric.{name}"]
    return round(worse if row["main_metric_better"] == "higher" else -worse, DIGITS)


def _bits(rows: Sequence[Mapping[Hashable, Any]]) -> dict[str, list[str]]:
    """Columns on the bits of each trial's layers."""
    prefix = "operations."
    shares = [
        sorted(
            ((str(name).removeprefix(prefix), value) for name, value in row.items() if str(name).startswith(prefix)),
            key=lambda share: -share[1],
        )
        for row in rows
    ]
    told = [" ".join(f"{name}={value:.3g}" for name, value in row if value == value) for row in shares]  # NaN: none
    return {"operations": told, "high_bit_layers": [str(row["high_bit_layers"]) for row in rows]}


def _column(metric: str) -> tuple[str, str]:
    column, _, name = metric.rpartition("=")
    return column or name, name


def _ratios(rows: Sequence[Mapping[Hashable, Any]], trials: Sequence[tuple[str, str, Path]]) -> dict[str, list[float]]:
    """Columns on how long a call takes, by that of the float model, of studies whose programs are timed apart."""
    by_study: dict[str, list[Record]] = {}
    for study, _, folder in trials:
        if (record := read_record(folder)) is not None:
            by_study.setdefault(study, []).append(record)
    found = {(study, trial): one for study, group in by_study.items() for trial, one in speeds(group).items()}
    measured = [found.get((str(row["study"]), str(row["trial"]))) for row in rows]

    def ratio(times: float | None) -> float:
        return round(1 / times, 3) if times else math.nan

    return {
        "latency_ratio": [ratio(one and one.faster) for one in measured],
        "latency_ratio_low": [ratio(one and one.high) for one in measured],
        "latency_ratio_high": [ratio(one and one.low) for one in measured],
    }
