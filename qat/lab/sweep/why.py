"""Explanation of the keys of a trial's stages: their parts, and the part by which one differs from an earlier key."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qat import data
from qat.lab.experiment import Stage, is_finished, stage_of
from qat.lab.experiment.config import ExperimentConfig, parse
from qat.lab.experiment.plugins import register, vetted
from qat.lab.runs.files import STAGES, SUPERSEDED
from qat.lab.runs.finished import finished_trial
from qat.lab.runs.record import read_record
from qat.lab.runs.settings import read_config, read_key
from qat.lab.runs.study_folder import TRIALS, children, holds_study, read_study
from qat.lab.sweep.study import Study, Trial, load_any
from qat.registry import did_you_mean

type Parts = Mapping[str, Any]

UNCOVERED = "not covered"
FOLLOWS = ("key", "kind", "needs", UNCOVERED)  # say nothing of what changed first


def changes(before: Parts, after: Parts) -> dict[str, tuple[Any, Any]]:
    """The parts that differ, by name, each as it was and as it is; None where there is none."""
    old, new = (dict(_flat({k: v for k, v in parts.items() if k not in FOLLOWS})) for parts in (before, after))
    names = dict.fromkeys((*old, *new))
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def differences(places: Sequence[tuple[Path, Path]]) -> dict[str, tuple[Any, Any]]:
    """The changes between the stages in pairs of folders, an earlier and a later one."""
    found: dict[str, tuple[Any, Any]] = {}
    for before, after in places:
        old, new = read_key(before), read_key(after)
        found |= {} if old is None or new is None else changes(old, new)
    return found


def why(place: Path, wanted: str, settings: Mapping[str, Any], runs: Path | None, *, trust: bool = False) -> Group:
    """All parts of the keys of one trial, named by its id or by labels, of a study's file or of a run folder; and of
    the stages that are not finished in the run folder, which part differs from the nearest earlier one.

    Raises `ValueError` where no trial, or more than one, is meant.
    """
    if holds_study(place):
        study, root = _study_in(place, wanted, trust), place
    else:
        study = load_any(place, settings)
        root = runs or Path("runs") / study.name
    trial = chosen(study.trials, wanted)
    last = stage_of(trial.config, data.load(trial.config.data).fingerprint)
    tables, words = [], []
    for stage in dict.fromkeys(last.walk()):
        differing, said = _state(root, trial, stage)
        tables.append(_table(stage, differing))
        words.append(Text(f"{stage.name}: {said}"))
    return Group(*tables, *words)


def chosen(trials: Sequence[Trial], wanted: str) -> Trial:
    """The trial of that id, or with those labels: `ptq w8a8, seed 0`."""
    labels = {one.strip() for one in wanted.split(",")}
    found = [one for one in trials if one.id == wanted] or [one for one in trials if labels <= {*one.labels.values()}]
    if len(found) == 1:
        return found[0]
    names = [", ".join(one.labels.values()) or one.id for one in found or trials]
    problem = f"{len(found)} trials are {wanted!r}" if found else f"no trial is {wanted!r}{did_you_mean(wanted, names)}"
    raise ValueError(f"`--why` takes the id or the labels of one trial, but {problem}. There are: {'; '.join(names)}.")


def _study_in(root: Path, wanted: str, trust: bool) -> Study:
    """The study of a run folder, as far as its trials have begun."""
    held, trials = read_study(root), []
    for name, labels in held.trials.items():
        meant = name == wanted or {one.strip() for one in wanted.split(",")} <= {*labels.values()}
        if meant and (values := read_config(held.trial(name))) is not None:
            register(values, vetted(held.imports, root, trust))
            trials.append(Trial(labels, parse(ExperimentConfig, values)))
    if not trials:
        raise ValueError(f"`--why`: no trial in {str(root)!r} that has begun is {wanted!r}.")
    return Study(held.name, tuple(trials), held.imports)


def _state(root: Path, trial: Trial, stage: Stage) -> tuple[dict[str, tuple[Any, Any]], str]:
    """The parts that differ from the nearest stage in the run folder with another key, and the state in words."""
    own = root / TRIALS / trial.id
    record = read_record(own) if own.exists() else None
    if finished_trial(own, stage.key) is not None if stage.kind == "trial" else is_finished(root, stage):
        return {}, "finished"
    earlier = [parts for place in _earlier(root, own, stage, record) if (parts := read_key(place)) is not None]
    earlier = [parts for parts in earlier if parts.get("key") != stage.key and parts.get("kind") == stage.kind]
    if not earlier:
        return {}, "to be done; no earlier one to compare with"
    found = min((changes(parts, stage.parts) for parts in earlier), key=len)
    if not found:
        return {}, "to be done, as something that it starts from has changed"
    return found, f"to be done, as these have changed: {', '.join(found)}"


def _earlier(root: Path, own: Path, stage: Stage, record: Any) -> Iterator[Path]:
    """The folder of the stage that the trial's record is of, or else of all of its kind."""
    if stage.kind == "trial":
        yield own
        yield from children(root / SUPERSEDED, f"{own.name}-")
    elif record is not None and stage.kind in record.stages:
        yield root / STAGES / f"{stage.kind}-{record.stages[stage.kind]}"
    else:
        yield from children(root / STAGES, f"{stage.kind}-")


@dataclass(frozen=True)
class _Row:
    name: str
    now: Any
    before: Any = ""


def _table(stage: Stage, differing: Mapping[str, tuple[Any, Any]]) -> Table:
    shown = Table(title=Text(f"{stage.kind} {stage.key}"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("part of the key", "now", "before"):
        shown.add_column(heading, overflow="fold")
    rows = [_Row(name, value, differing.get(name, ("", ""))[0]) for name, value in _flat(stage.parts) if value]
    rows += [_Row(name, "gone", old) for name, (old, new) in differing.items() if new is None]
    for row in rows:
        style = "bold red" if row.name in differing else ""
        shown.add_row(*(Text("" if one is None else str(one), style=style) for one in (row.name, row.now, row.before)))
    return shown


def _flat(parts: Parts, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by a name such as `settings train.steps` or `code own_model.py`."""
    for name, value in parts.items():
        if isinstance(value, Mapping):
            joint = "." if prefix.count(" ") else " "
            yield from _flat(value, f"{prefix}{name}{joint}")
        else:
            plain = list(value) if isinstance(value, (list, tuple)) else value
            yield prefix + name, ", ".join(plain) if prefix + name == UNCOVERED else plain
