"""Groups of trials that differ in their seed only, and the trial that each is fairly compared with."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qat.lab.runs.record import Arm, Record
from qat.registry import parse_call

type Pair = tuple[Record, Record]


@dataclass(frozen=True)
class Group:
    """Trials of one arm that differ in their seed only, in order; `name` tells the group from the others."""

    name: str
    label: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """A record that stands for the group in everything but the seed."""
        return self.records[0]

    @property
    def labels(self) -> dict[str, str]:
        """The group's labels by axis."""
        return {axis: label for axis, label in self.first.labels.items() if axis != "seed"}


def groups(records: Iterable[Record]) -> list[Group]:
    """Groups in the order of the records; of two trials of all the same settings the later one stands."""
    found: dict[str, dict[int, Record]] = {}
    for record in records:
        found.setdefault(record.lineage.group, {})[record.seed] = record
    members = [tuple(by_seed.values()) for by_seed in found.values()]
    short = [_name(one[0]) for one in members]
    labels = [_label(one[0]) for one in members]
    names = [name if short.count(name) == 1 else label for name, label in zip(short, labels, strict=True)]
    return [Group(*one) for one in zip(names, labels, members, strict=True)]


def main_metric(record: Record, name: str | None = None) -> float | None:
    """A record's main metric, or another by name, as it is shown; None where it has none that is finite."""
    metric = record.metric if name is None else record.metric_of(name)
    value = record.metrics.get(metric.name)
    return None if value is None or not math.isfinite(value) else metric.shown(value)


def gaining(pairs: Sequence[Pair], name: str | None = None) -> tuple[list[float], list[float]]:
    """Both sides' main metrics, or others by name, as they are shown, such that first minus second is what the trials
    gain over their baselines: those of the baselines come first where lower values are better."""
    first, second = (
        [found for one in side if (found := main_metric(one, name)) is not None] for side in zip(*pairs, strict=True)
    )
    metric = pairs[0][0].metric if name is None else pairs[0][0].metric_of(name)
    return (first, second) if metric.better == "higher" else (second, first)


class Baselines:
    """Finds, among some records, the ones that a trial is compared with: all of the trial's own seed.

    Those in float are found by the digests of the trial's lineage. PTQ is that from whose calibration the QAT trial
    went on, else that of the same float model, seed and recipe but for its quantizer, which is how it trains.
    """

    def __init__(self, records: Iterable[Record]):
        records = list(records)
        self._floats = {one.lineage.float_stage: one for one in records if one.arm == "float"}
        self._controls = {one.lineage.control: one for one in records if one.arm == "control"}
        self._arm_axes = _arm_axes(records)
        self._by_calibration: dict[str, list[Record]] = {}
        self._by_recipe: dict[tuple[str, int, str | None], list[Record]] = {}
        for one in (one for one in records if one.arm == "ptq"):
            self._by_recipe.setdefault(_untrained(one), []).append(one)
            if "calibration" in one.stages:
                self._by_calibration.setdefault(one.stages["calibration"], []).append(one)

    def comparable(self, group: Group, arm: Arm) -> list[Pair]:
        """The group's trials with their baselines of that arm, where both have the main metric."""
        baseline = {"float": self.float_, "control": self.control, "ptq": self.ptq}[arm]
        return [
            (record, found)
            for record in group.records
            if (found := baseline(record)) is not None
            and found.metric == record.metric
            and None not in (main_metric(record), main_metric(found))
        ]

    def between(self, first: Group, second: Group, name: str | None) -> list[Pair]:
        """Trials of two groups where both have a metric, the main one or another by name: with the one that a trial is
        a baseline of, as a float model shared by seeds, else of the same seed."""
        by_seed, members = {one.seed: one for one in second.records}, set(map(id, second.records))
        found = []
        for record in first.records:
            fair = [one for one in (self.float_(record), self.control(record), self.ptq(record)) if id(one) in members]
            other = fair[0] if fair else by_seed.get(record.seed)
            if other is not None and None not in (main_metric(record, name), main_metric(other, name)):
                found.append((record, other))
        return found

    def float_or_self(self, record: Record) -> Record | None:
        """The float model that a trial starts from; of that model itself it."""
        return self._floats.get(record.lineage.float_stage)

    def float_(self, record: Record) -> Record | None:
        """The float model that a trial starts from."""
        return None if record.arm == "float" else self._floats.get(record.lineage.float_stage)

    def control(self, record: Record) -> Record | None:
        """The float model trained on as long."""
        if record.arm in ("float", "control") or record.lineage.control is None:
            return None
        return self._controls.get(record.lineage.control)

    def ptq(self, record: Record) -> Record | None:
        """The PTQ trial with the same quantization as a QAT trial."""
        if record.arm != "qat":
            return None
        same = self._by_calibration.get(record.stages.get("calibration", ""), [])
        alike = [one for one in same or self._candidates(record) if self._other(one) == self._other(record)]
        if same:
            return (alike or same)[0]  # several of one calibration are one model
        return alike[0] if len({one.lineage.group for one in alike}) == 1 else None

    def _candidates(self, record: Record) -> list[Record]:
        return self._by_recipe.get(_untrained(record), [])

    def _other(self, record: Record) -> dict[str, str]:
        """A trial's labels on axes that may set it apart from another arm's trial."""
        return {axis: label for axis, label in record.labels.items() if axis not in self._arm_axes}


def _untrained(record: Record) -> tuple[str, int, str | None]:
    """The key that a QAT trial shares with the PTQ trial that is its baseline: a recipe's quantizer only says how it
    trains.
    """
    return record.lineage.float_stage, record.seed, record.recipe and _without_quantizer(record.recipe)


@functools.cache
def _without_quantizer(recipe: str) -> str:
    name, args, options = parse_call(recipe)
    return repr((name, args, sorted((key, repr(value)) for key, value in options.items() if key != "quantizer")))


def _arm_axes(records: Sequence[Record]) -> set[str]:
    """The axes along which the arm itself changes, every label standing for one arm; and the seed's."""
    arms: dict[str, dict[str, set[Arm]]] = {}
    for record in records:
        for axis, label in record.labels.items():
            arms.setdefault(axis, {}).setdefault(label, set()).add(record.arm)
    telling = {
        axis
        for axis, by_label in arms.items()
        if all(len(found) == 1 for found in by_label.values()) and len(set.union(*by_label.values())) > 1
    }
    return telling | {"seed"}


def _name(record: Record) -> str:
    return record.arm if record.recipe is None else f"{record.arm.upper()} {record.recipe}"


def _label(record: Record) -> str:
    """The trial's labels but for its seed's."""
    return ", ".join(label for axis, label in record.labels.items() if axis != "seed") or record.arm
