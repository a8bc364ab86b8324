"""A trial run again from its config, and whether every number came out the same."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from qat.artifact import load_examples
from qat.config import ExperimentConfig, parse
from qat.files import CONFIG_FILE, EXAMPLES_FILE, MANIFEST_FILE, MODEL_FILE
from qat.pipeline import run_experiment
from qat.record import Record, read_record
from qat.sweep.folder import STUDY_FILE, TRIALS, read_study
from qat.sweep.job import Report
from qat.sweep.source import register
from qat.sweep.trust import vetted


@dataclass(frozen=True)
class Number:
    """One thing that was recorded, and what it is now."""

    name: str
    recorded: str
    again: str

    @property
    def same(self) -> bool:
        """To the last digit."""
        return self.recorded == self.again


@dataclass(frozen=True)
class Replay:
    """All numbers of a trial but its times, and what of its surroundings is different now (recorded, now)."""

    trial: str
    numbers: tuple[Number, ...]
    surroundings: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether every number came out the same."""
        return all(number.same for number in self.numbers)


def replay(folder: Path, report: Report, *, trust: bool = False) -> Replay:
    """Train, quantize and measure the trial in `folder` again, from nothing, in a temporary place.

    Files of its study that it needs are run where they are in the current project, or by `trust`. Raises `ValueError`
    where they are not, or the folder holds no finished trial.
    """
    record = read_record(folder)
    if record is None:
        raise ValueError(f"{str(folder)!r} holds no finished trial. Give a folder such as RUNS/trials/ID.")
    values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    study = folder.absolute().parent.parent
    if (study / STUDY_FILE).exists():
        register(values, vetted(read_study(study).imports, study, trust))
    config = parse(ExperimentConfig, values)
    about = {"trial": record.trial, "labels": record.labels, "lineage": record.lineage}
    with tempfile.TemporaryDirectory(prefix="qat-replay-") as name:
        root = Path(name)
        again = run_experiment(config, root, root / TRIALS / record.trial, about, report)
        numbers = _numbers(record, again, folder, root / TRIALS / record.trial)
        surroundings = _changed(_manifest(folder), _manifest(root / TRIALS / record.trial))
    return Replay(record.trial, numbers, surroundings)


def _numbers(before: Record, after: Record, old: Path, new: Path) -> tuple[Number, ...]:
    found = [Number(name, repr(value), repr(after.metrics.get(name))) for name, value in before.metrics.items()]
    found.append(Number("size_bytes", str(before.size_bytes), str(after.size_bytes)))
    found.append(Number(MODEL_FILE, *(_digest((place / MODEL_FILE).read_bytes()) for place in (old, new))))
    if (old / EXAMPLES_FILE).exists():
        first, second = load_examples(old / EXAMPLES_FILE), load_examples(new / EXAMPLES_FILE)
        found += [
            Number(f"examples: {name}", _digest(first[name].tobytes()), _digest(second[name].tobytes()))
            for name in first
        ]
    return tuple(found)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """Entries that differ, by dotted path."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= _changed(old, new, f"{path}{name}.")
        elif old != new:
            found[path + name] = (old, new)
    return found


def table(found: Replay) -> Table:
    """For the terminal."""
    verdict = "every number is the same" if found.same else "NOT the same"
    shown = Table("", "recorded", "again", "", title=Text(f"{found.trial}: {verdict}"), title_justify="left")
    for number in found.numbers:
        shown.add_row(number.name, number.recorded, number.again, "same" if number.same else "[red]differs[/]")
    for name, (old, new) in found.surroundings.items():
        shown.add_row(Text(f"manifest: {name}"), Text(str(old)), Text(str(new)), "")
    return shown
