"""Every trial of a study as a row of plain values, for the page's table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qat.lab.report.contents import Contents
from qat.lab.report.html.curves import short
from qat.lab.report.summary import Row
from qat.lab.runs.record import Arm, Record
from qat.tasks.metric import Metric

FEW = 60  # different values of a column that are offered as a choice
RECIPES = 3  # that the charts show at first

type Column = dict[str, Any]
type Value = Callable[[str, Record | None], Any]


def table(contents: Contents) -> dict[str, list[Any]]:
    """`columns`, each with its `name`, `kind` (text or number) and how it is shown, and `rows` in the study's order."""
    arms = _arms(contents)
    columns: list[tuple[Column, Value]] = [
        ({"name": "arm", "kind": "text", "choices": True, "mark": True}, lambda trial, _: arms[trial][0]),
        ({"name": "recipe", "kind": "text", "choices": True}, lambda trial, _: arms[trial][1]),
        *(_axis(contents, axis) for axis in _axes(contents, arms)),
        *_metrics(contents.records),
        (_lower("size, kB", 1), lambda _, record: record and short(record.size_bytes / 1000, 6)),
        (_lower("latency, ms", 3), _timing("latency_ms")),
        (_lower("seconds", 1), _timing("seconds")),
        ({"name": "state", "kind": "text", "choices": True, "mark": True}, lambda trial, _: contents.state(trial)),
        ({"name": "done", "kind": "text"}, lambda _, record: (record and record.provenance) or None),
        ({"name": "trial", "kind": "text", "head": True}, lambda trial, _: trial),
    ]
    values = [[value(trial, contents.records.get(trial)) for _, value in columns] for trial in contents.trials]
    shown = [k for k in range(len(columns)) if any(row[k] is not None for row in values)]
    return {"columns": [columns[k][0] for k in shown], "rows": [[row[k] for k in shown] for row in values]}


def group_of(contents: Contents, rows: Sequence[Row]) -> dict[str, str]:
    """The name of each trial's arm: trials of one name differ in their seed only."""
    names = {trial: row.name for row in rows for trial in row.trials}
    return {trial: names.get(trial) or _joined(labels) for trial, labels in contents.trials.items()}


def chosen(contents: Contents) -> list[str]:
    """Finished trials that show the arms side by side: those of one float model, with the last few recipes."""
    records = list(contents.records.values())
    start = records[0].lineage.float_stage if records else ""
    same = {(one.arm, one.recipe): one for one in reversed(records) if one.lineage.float_stage == start}
    recipes = list(dict.fromkeys(one.recipe for one in records if one.recipe))[-RECIPES:]
    wanted = [("float", None), ("control", None), *((arm, recipe) for recipe in recipes for arm in ("ptq", "qat"))]
    return [same[key].trial for key in wanted if key in same]


def _joined(labels: Mapping[str, str]) -> str:
    return ", ".join(label for axis, label in labels.items() if axis != "seed") or "trial"


def _arms(contents: Contents) -> dict[str, tuple[Arm | None, str | None]]:
    """Arm and recipe of each trial; those of an open one are known where its labels had them in other trials."""
    seen: dict[tuple[str, str], set[tuple[Arm, str | None]]] = {}
    for trial, record in contents.records.items():
        for label in contents.trials[trial].items():
            seen.setdefault(label, set()).add((record.arm, record.recipe))
    telling = {label: next(iter(arms)) for label, arms in seen.items() if len(arms) == 1}
    found = {}
    for trial, labels in contents.trials.items():
        record = contents.records.get(trial)
        guess = next((telling[label] for label in labels.items() if label in telling), (None, None))
        found[trial] = (record.arm, record.recipe) if record else guess
    return found


def _axes(contents: Contents, arms: Mapping[str, tuple[Arm | None, str | None]]) -> list[str]:
    """The axes that say more than the columns of arm and recipe."""
    names = dict.fromkeys(axis for labels in contents.trials.values() for axis in labels)
    shown = {trial: {arm, recipe, f"{arm} {recipe}"} for trial, (arm, recipe) in arms.items()}
    return [
        name for name in names if any(labels.get(name) not in shown[trial] for trial, labels in contents.trials.items())
    ]


def _axis(contents: Contents, axis: str) -> tuple[Column, Value]:
    values = {labels.get(axis) for labels in contents.trials.values()}
    name = f"{axis} (label)" if axis in ("trial", "state", "arm", "recipe") else axis
    column = {"name": name, "kind": "text", "choices": len(values) <= FEW}
    return column, lambda trial, _: contents.trials[trial].get(axis)


def _metrics(records: Mapping[str, Record]) -> list[tuple[Column, Value]]:
    """The main metric, then the others in the order of the records."""
    found = dict.fromkeys(record.metric for record in records.values())
    found |= dict.fromkeys(
        record.metric_of(name)
        for record in records.values()
        for name in record.metrics
        if "/" not in name  # those of classes
    )
    return [_metric(metric) for metric in found]


def _metric(metric: Metric) -> tuple[Column, Value]:
    def value(_: str, record: Record | None) -> float | None:
        found = record.metrics.get(metric.name) if record and record.metric_of(metric.name) == metric else None
        return None if found is None else short(metric.shown(found), 6)

    column = _number(metric.heading, 4 if metric.decimals is None else metric.decimals)
    return {**column, "better": metric.better}, value


def _timing(name: str) -> Value:
    return lambda _, record: short(record.timings.get(name)) if record else None


def _lower(name: str, digits: int) -> Column:
    return {**_number(name, digits), "better": "lower"}


def _number(name: str, digits: int) -> Column:
    return {"name": name, "kind": "number", "digits": digits}


SEED = "seed"  # differs on purpose, and the table of trials tells it
TELLING = {
    "cpu.usable": "numbers of usable cores",
    "cpu.threads": "numbers of threads",
    "versions": "versions of packages",
    "device": "devices",
    "cpu": "processors",
    "platform": "systems",
    "revision": "versions of the code",
    "code": "versions of the code",
    "flags": "flags",
    "matmul_precision": "precisions of products",
}


@dataclass(frozen=True)
class Difference:
    """A fact that is not the same for all trials: the trials, by its value; None where a trial does not have it."""

    name: str
    trials: dict[str | None, tuple[str, ...]]


@dataclass(frozen=True)
class Provenance:
    """Facts that hold for all trials, by name, and those that differ; `warnings` say which of these matter."""

    common: dict[str, str]
    different: tuple[Difference, ...]
    warnings: tuple[str, ...]


def provenance(manifests: Mapping[str, Mapping[str, Any]]) -> Provenance:
    """Collect the contents of the trials' manifests (by trial id) without their seeds."""
    flat = {trial: dict(flattened(manifest)) for trial, manifest in manifests.items()}
    common, different = {}, []
    for name in dict.fromkeys(name for facts in flat.values() for name in facts if name != SEED):
        trials: dict[str | None, list[str]] = {}
        for trial, facts in flat.items():
            trials.setdefault(facts.get(name), []).append(trial)
        if len(trials) > 1:
            different.append(Difference(name, {value: tuple(ids) for value, ids in trials.items()}))
        else:
            common[name] = next(iter(trials)) or ""
    telling = (TELLING.get(one.name) or TELLING.get(one.name.split(".")[0]) for one in different)
    parts = dict.fromkeys(part for part in telling if part)
    warnings = [f"Trials ran under different {part}: compare their numbers with care." for part in parts]
    return Provenance(common, tuple(different), tuple(warnings))


def flattened(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Dotted names and values as text; an empty object is none."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        return [fact for key, part in value.items() for fact in flattened(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list):
        return [(name, ", ".join(map(str, value)) or "none")]
    return [(name, "unknown" if value is None else str(value))]
