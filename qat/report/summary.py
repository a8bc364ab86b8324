"""One row per arm: means over seeds, and drops against the float model and the control it shares with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qat.record import Arm, Record
from qat.stats import Estimate, estimate, paired_difference


@dataclass(frozen=True)
class Row:
    """Trials that differ in their seed only. Accuracy and drops in percent; a drop is None where nothing pairs up."""

    label: str
    arm: Arm
    recipe: str | None
    accuracy: Estimate
    drop_from_float: Estimate | None
    drop_from_control: Estimate | None
    size_bytes: float
    size_ratio: float | None


def summarize(records: Iterable[Record]) -> list[Row]:
    """The rows, in the order of the records."""
    records = list(records)
    floats = {record.lineage.float_stage: record for record in records if record.arm == "float"}
    controls = {record.lineage.control: record for record in records if record.arm == "control"}
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.lineage.group, []).append(record)
    return [_row(group, floats, controls) for group in groups.values()]


def _row(group: Sequence[Record], floats: dict[str, Record], controls: dict[str | None, Record]) -> Row:
    first = group[0]
    trained = [floats.get(record.lineage.float_stage) for record in group]
    control = [controls.get(record.lineage.control) for record in group] if first.lineage.control else [None]
    size = estimate([record.size_bytes for record in group]).mean
    paired = [float_.size_bytes / record.size_bytes for float_, record in zip(trained, group, strict=True) if float_]
    return Row(
        label=_label(first),
        arm=first.arm,
        recipe=first.recipe,
        accuracy=estimate([_percent(record) for record in group]),
        drop_from_float=None if first.arm == "float" else _drop(trained, group),
        drop_from_control=None if first.arm in ("float", "control") else _drop(control, group),
        size_bytes=size,
        size_ratio=estimate(paired).mean if paired else None,
    )


def _drop(baselines: Sequence[Record | None], group: Sequence[Record]) -> Estimate | None:
    """How much less accurate than its own baseline each trial is; None unless every one has a baseline."""
    found = [baseline for baseline in baselines if baseline is not None]
    if len(found) != len(group):
        return None
    return paired_difference([_percent(record) for record in found], [_percent(record) for record in group])


def _percent(record: Record) -> float:
    return 100 * record.metrics["accuracy"]


def _label(record: Record) -> str:
    """The trial's labels but for its seed's."""
    return ", ".join(label for axis, label in record.labels.items() if axis != "seed") or record.arm
