"""The questions that a study of quantization answers, and what its records show of each."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from qat.lab.report.pairing import Baselines, Group, Pair, gaining
from qat.lab.runs.examples import Examples, reader
from qat.lab.runs.record import Arm
from qat.lab.stats import Change, Comparison, Evidence, Verdict, compare_items, compare_seeds, judge
from qat.tasks.metric import Metric

QUESTIONS: tuple[tuple[Arm, Arm], ...] = (("ptq", "float"), ("qat", "control"), ("qat", "ptq"))

type Asked = tuple[Group, Sequence[Pair]]
"""A group and its trials, each with the baseline that it is compared with."""


def verdicts(
    groups: Sequence[Group], baselines: Baselines, folders: Mapping[str, Path], margin: float | None
) -> dict[str, dict[Arm, Verdict]]:
    """Verdicts by a group's digest and the arm that it is compared with; p-values are corrected for all groups of one
    question.

    Main metrics are compared over seeds, and per example where all trials of a comparison have them in `folders`.
    """
    examples = reader(folders)
    names = {one.first.lineage.group: one.name for one in groups}
    found: dict[str, dict[Arm, Verdict]] = {digest: {} for digest in names}
    for arm, baseline in QUESTIONS:
        asked = [(one, baselines.comparable(one, baseline)) for one in groups if one.first.arm == arm]
        asked = [(one, pairs) for one, pairs in asked if pairs]
        for metric in dict.fromkeys(one.first.metric for one, _ in asked):
            family = [(one, pairs) for one, pairs in asked if one.first.metric == metric]
            judged = _judge(family, baseline, names, metric, margin, examples)
            for (one, _), verdict in zip(family, judged, strict=True):
                found[one.first.lineage.group][baseline] = verdict
    return found


def _judge(
    family: Sequence[Asked],
    baseline: Arm,
    names: Mapping[str, str],
    metric: Metric,
    margin: float | None,
    examples: Examples,
) -> list[Verdict]:
    margin = metric.margin if margin is None else margin
    change: Change = "gain" if baseline == "ptq" else metric.worsening
    items = _over_items(family, metric, margin, examples)
    comparisons = [
        Comparison(
            first=group.name,
            second=names[pairs[0][1].lineage.group],
            seeds=compare_seeds(*gaining(pairs), margin),
            items=items.get(group.first.lineage.group),
            change=change,
        )
        for group, pairs in family
    ]
    return judge(
        comparisons,
        margin,
        unit=metric.difference_unit,
        decimals=metric.decimals,
        largest=metric.largest_difference,
    )


def _over_items(
    family: Sequence[Asked], metric: Metric, margin: float | None, examples: Examples
) -> dict[str, Evidence]:
    """Evidence on what the groups gain over their baselines, by a group's digest, where examples are at hand."""
    having: list[str] = []

    def arrays() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for group, pairs in family:
            sides = [[examples(record) for record in side] for side in zip(*pairs, strict=True)]
            sides = sides if metric.better == "higher" else sides[::-1]
            if (found := _stacked(sides)) is not None:
                having.append(group.first.lineage.group)
                yield found

    evidence = compare_items(arrays(), None if margin is None else margin / metric.factor)
    return {digest: one.scaled(metric.factor) for digest, one in zip(having, evidence, strict=True)}


def _stacked(sides: Sequence[Sequence[np.ndarray | None]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Both sides as (seeds, items); None unless every trial has equally many examples."""
    rows = [row for side in sides for row in side if row is not None]
    if len(rows) < sum(map(len, sides)) or len({row.shape for row in rows}) != 1:
        return None
    half = len(rows) // 2
    return np.stack(rows[:half]), np.stack(rows[half:])
