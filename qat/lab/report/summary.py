"""One row per arm: means over seeds, drops against the float model and the control it shares with them, verdicts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qat.lab.report.contents import Declared
from qat.lab.report.images import Outcomes, outcomes_in
from qat.lab.report.pairing import Baselines, Group, gaining, groups, main_metric
from qat.lab.report.verdicts import Verdicts, verdicts
from qat.lab.runs.record import Arm, Record
from qat.lab.runs.speed import Speed, speeds
from qat.lab.stats import Estimate, Verdict, estimate, paired_difference
from qat.tasks.metric import Metric


@dataclass(frozen=True)
class Row:
    """Trials that differ in their seed only, named by `trials`.

    `name` tells the row from the others; `label` joins the trials' labels, `labels` are those by axis, but for the
    seed's. `score` is the main `metric` as it is shown: percent for accuracies; NaN of no seeds where no trial has a
    finite one. Drops and the gain are in the unit of the metric's differences, paired by seed over the seeds that have
    both, and None where none has; a drop is positive where the row is worse, the gain where it is better, whichever way
    the metric goes. Sizes are in bytes,
    their ratio is how many times smaller than the float model it is; both are means. `speed` is that of the row's
    program, which other rows may share (None: not measured). `verdicts` are by the arm that the row is compared with:
    `float` for PTQ, `control` and `ptq` for QAT; `contrasts` those on the contrasts that the study declared, in which
    the row is the first. `operations` are the shares of multiplications by bits of weights and activations, means over
    the trials that have them, `float_models` how many float models the trials start from.
    """

    name: str
    label: str
    labels: Mapping[str, str]
    trials: tuple[str, ...]
    arm: Arm
    recipe: str | None
    metric: Metric
    score: Estimate
    drop_from_float: Estimate | None
    drop_from_control: Estimate | None
    gain_over_ptq: Estimate | None
    size_bytes: float
    size_ratio: float | None
    speed: Speed | None
    verdicts: Mapping[Arm, Verdict] = field(default_factory=dict)
    contrasts: tuple[Verdict, ...] = ()
    operations: Mapping[str, float] = field(default_factory=dict)
    float_models: int = 0


def summarize(
    records: Iterable[Record],
    folders: Mapping[str, Path] | Outcomes | None = None,
    margin: float | None = None,
    contrasts: Sequence[Declared] = (),
) -> list[Row]:
    """The rows, in the order of the records.

    `folders` are the trials' own, by id, or the outcomes that were kept of them: with them arms are compared per test
    example too. `margin` is the difference
    that does not matter, in the unit of the main metric's differences: by default the metric's own, 0.3 points for
    fractions; where it has none, no equivalence is tested. `contrasts` are those that the study declared.
    """
    records = list(records)
    found, baselines = groups(records), Baselines(records)
    outcomes = folders if isinstance(folders, Outcomes) else outcomes_in(folders or {})
    judged, measured = verdicts(found, baselines, outcomes, margin, contrasts), speeds(records)
    return [_row(group, baselines, judged, measured) for group in found]


def _row(group: Group, baselines: Baselines, judged: Verdicts, measured: Mapping[str, Speed]) -> Row:
    first = group.first
    digest = first.lineage.group
    scores = [score for record in group.records if (score := main_metric(record)) is not None]
    floats = [(record, found) for record in group.records if (found := baselines.float_or_self(record))]
    return Row(
        name=group.name,
        label=group.label,
        labels=group.labels,
        trials=tuple(record.trial for record in group.records),
        arm=first.arm,
        recipe=first.recipe,
        metric=first.metric,
        score=estimate(scores) if scores else Estimate(math.nan, None, None, 0),
        drop_from_float=_drop(group, baselines, "float"),
        drop_from_control=_drop(group, baselines, "control"),
        gain_over_ptq=_gain(group, baselines, "ptq"),
        size_bytes=estimate([record.size_bytes for record in group.records]).mean,
        size_ratio=_mean([found.size_bytes / record.size_bytes for record, found in floats if record.size_bytes]),
        speed=next((measured[record.trial] for record in group.records if record.trial in measured), None),
        verdicts=judged.questions[digest],
        contrasts=tuple(judged.contrasts[digest]),
        operations=_operations([record.operations for record in group.records if record.operations]),
        float_models=len({record.lineage.float_stage for record in group.records}),
    )


def _gain(group: Group, baselines: Baselines, arm: Arm) -> Estimate | None:
    pairs = baselines.comparable(group, arm)
    return paired_difference(*gaining(pairs)) if pairs else None


def _drop(group: Group, baselines: Baselines, arm: Arm) -> Estimate | None:
    pairs = baselines.comparable(group, arm)
    return paired_difference(*reversed(gaining(pairs))) if pairs else None


def _operations(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean shares by bits, the largest first."""
    means = {bits: math.fsum(one.get(bits, 0.0) for one in shares) / len(shares) for one in shares for bits in one}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _mean(numbers: Sequence[float]) -> float | None:
    return math.fsum(numbers) / len(numbers) if numbers else None
