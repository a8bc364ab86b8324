"""A trial run again from its config, and whether every number came out the same."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from qat.lab.experiment import run_experiment
from qat.lab.experiment.config import ExperimentConfig, parse
from qat.lab.experiment.plugins import register, vetted
from qat.lab.jobs.job import Report
from qat.lab.jobs.threads import on_cores, threads, using
from qat.lab.runs.examples import has_examples, load_examples
from qat.lab.runs.files import STAGES
from qat.lab.runs.manifest import read_manifest
from qat.lab.runs.models import model_digest, model_file
from qat.lab.runs.record import Record, read_record
from qat.lab.runs.settings import config_of
from qat.lab.runs.study_folder import TRIALS, holds_study, read_study, root_of
from qat.lab.sweep.why import differences

ADDED = ("cpu.usable", "cpu.threads")  # older manifests have none


@dataclass(frozen=True)
class Number:
    """One thing that was recorded, and what it is now."""

    name: str
    recorded: str
    again: str

    @property
    def same(self) -> bool:
        """Whether both values agree to the last digit."""
        return self.recorded == self.again


@dataclass(frozen=True)
class Replay:
    """All numbers of a trial but its times, and what of its surroundings is different now (recorded, now); `changed` is
    what of its keys is: code, packages, data."""

    trial: str
    numbers: tuple[Number, ...]
    surroundings: dict[str, tuple[Any, Any]]
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    threads: Mapping[str, int] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether every number came out the same."""
        return all(number.same for number in self.numbers)

    @property
    def causes(self) -> tuple[str, ...]:
        """Possible causes of numbers that are not the same."""
        found = [f"{name} has changed" for name in self.changed]
        if "cpu.threads" in self.surroundings:
            old, new = self.surroundings["cpu.threads"]
            found.append(f"XLA computed with {old} threads and now with {new}, on which last digits depend")
        if len({*self.threads.values()}) > 1:
            mixed = ", ".join(f"{kind} {number}" for kind, number in self.threads.items())
            found.append(f"its stages were made with different numbers of threads ({mixed}), and now all with one")
        found += [
            f"{name} was {old}, now {new}" for name, (old, new) in self.surroundings.items() if "versions" in name
        ]
        return tuple(found) or ("nothing that is recorded differs: is some code not covered (`qat show --why`)?",)


def replay(folder: Path, report: Report, *, trust: bool = False) -> Replay:
    """Train, quantize and measure the trial in `folder` again, from nothing, in a temporary place, with as many threads
    and on as many cores as it had, as far as there are.

    Files of its study that it needs are run where they are in the current project, or by `trust`. Raises `ValueError`
    where they are not, or the folder holds no finished trial.
    """
    record = read_record(folder)
    if record is None:
        raise ValueError(f"{str(folder)!r} holds no finished trial. Give a folder such as RUNS/trials/ID.")
    values = config_of(folder)
    study = root_of(folder)
    if holds_study(study):
        register(values, vetted(read_study(study).imports, study, trust))
    config = parse(ExperimentConfig, values)
    about = {"trial": record.trial, "labels": record.labels, "lineage": record.lineage}
    had = read_manifest(folder)
    number = next(iter(record.threads.values()), None) or threads()
    cores = had.get("cpu", {}).get("usable") or os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="qat-replay-") as name, using(number), on_cores(cores):
        root = Path(name)
        place = root / TRIALS / record.trial
        again = run_experiment(config, root, place, about, report)
        numbers = _numbers(record, again, folder, place)
        surroundings = _changed(had, read_manifest(place))
        stages = [(kind, key, again.stages.get(kind, "")) for kind, key in record.stages.items()]
        pairs = [(study / STAGES / f"{kind}-{old}", root / STAGES / f"{kind}-{new}") for kind, old, new in stages]
        changed = differences([*pairs, (folder, place)])
    return Replay(record.trial, numbers, surroundings, changed, record.threads)


def _numbers(before: Record, after: Record, old: Path, new: Path) -> tuple[Number, ...]:
    found = [Number(name, repr(value), repr(after.metrics.get(name))) for name, value in before.metrics.items()]
    found.append(Number("size_bytes", str(before.size_bytes), str(after.size_bytes)))
    found.append(Number(model_file(old).name, model_digest(old), model_digest(new)))
    if has_examples(old):
        first, second = load_examples(old), load_examples(new)
        found += [
            Number(f"examples: {name}", _digest(first[name].tobytes()), _digest(second[name].tobytes()))
            for name in first
        ]
    return tuple(found)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """Entries that differ, by dotted path."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= _changed(old, new, f"{path}{name}.")
        elif old != new and not (old is None and path + name in ADDED):
            found[path + name] = (old, new)
    return found


def table(found: Replay) -> Table:
    """The table for the terminal."""
    verdict = "every number is the same" if found.same else "NOT the same"
    shown = Table("", "recorded", "again", "", title=Text(f"{found.trial}: {verdict}"), title_justify="left")
    for number in found.numbers:
        shown.add_row(number.name, number.recorded, number.again, "same" if number.same else "[red]differs[/]")
    changes = {**{f"manifest: {name}": pair for name, pair in found.surroundings.items()}, **found.changed}
    for name, (old, new) in changes.items():
        shown.add_row(Text(name), Text(str(old)), Text(str(new)), "")
    if not found.same:
        shown.caption = Text(f"It may be because {'; because '.join(found.causes)}.")
    return shown
