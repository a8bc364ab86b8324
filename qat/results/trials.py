"""One row for each finished trial."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qat.files import CONFIG_FILE
from qat.record import Record, read_sealed_record
from qat.results.studies import find, read_all, text_of
from qat.sealed import fault
from qat.storage import is_local
from qat.sweep.failure import FAILURE_FILE

RECORDED = ("arm", "recipe", "seed")  # settings that the record has too

type Cells = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What a trial's folder holds; `failed` of one that is not finished says that it was given up."""

    folder: Path
    record: Record | None
    config: Cells | None
    failed: bool
    problems: tuple[str, ...]


def load(path: str | Path) -> pd.DataFrame:
    """One row for each finished trial, in the studies' order; `path` is a study's folder, or one that holds several.

    Columns: `study`, `trial`, `arm`, `recipe`, `seed`; `label.<axis>`; `main_metric` (its name) and `metric.<name>` in
    the task's own units; `examples`, `size_bytes`, `timing.<name>`; `config.<dotted.path>` of every setting that is not
    the same in all trials; `lineage.float_stage`, `lineage.control`, `lineage.group`, `key`, `schema`; and `folder`.
    What a trial does not have is missing.

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
        return Trial(folder, None, None, (folder / FAILURE_FILE).exists(), ())
    record, digests = found
    by_size = [name for name in digests if name != CONFIG_FILE] if is_local(folder) else []
    problems = [line for name in by_size if (line := fault(folder / name, digests, by_size=True))]
    try:
        if line := fault(folder / CONFIG_FILE, digests):
            raise ValueError(line)
        return Trial(folder, record, _config(folder / CONFIG_FILE), False, tuple(problems))
    except ValueError as error:
        return Trial(folder, record, None, False, (str(error), *problems))


def _config(path: Path) -> Cells | None:
    """Settings by dotted path; None where the trial has no such file."""
    text = text_of(path)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} is damaged (it holds no settings).")
    return dict(_leaves(found, ""))


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
        "main_metric": [record.metric for record in records],
        **_spread("metric", [record.metrics for record in records]),
        "examples": [record.examples for record in records],
        "size_bytes": [record.size_bytes for record in records],
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
    """Of each config the settings that are not the same in all that could be read."""
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
