"""The questions that a study of quantization answers, those that it declared, and what its records show of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qat.lab.report.contents import Declared
from qat.lab.report.images import Outcomes, over_images
from qat.lab.report.pairing import Baselines, Group, Pair, gaining
from qat.lab.runs.examples import Examples
from qat.lab.runs.record import Arm
from qat.lab.stats import Change, Comparison, Evidence, Terms, Verdict, compare_items, compare_seeds, judge
from qat.tasks.metric import Metric

QUESTIONS: tuple[tuple[Arm, Arm], ...] = (("ptq", "float"), ("qat", "control"), ("qat", "ptq"))


@dataclass(frozen=True)
class Verdicts:
    """Verdicts by a group's digest: on the questions, by the arm that the group is compared with, and on the contrasts
    that the study declared, in which it is the first. A question that was declared has the verdict of the contrast."""

    questions: Mapping[str, Mapping[Arm, Verdict]] = field(default_factory=dict)
    contrasts: Mapping[str, Sequence[Verdict]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A comparison that is asked for: of a group with another, over pairs of trials, in a metric; `declared` before
    there was any result of it."""

    first: Group
    second: str
    pairs: Sequence[Pair]
    metric: Metric
    name: str | None
    margin: float | None
    change: Change
    baseline: Arm
    declared: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """The two arms and the metric, by which others ask the same."""
        return self.first.first.lineage.group, self.second, self.metric.name


def verdicts(
    groups: Sequence[Group],
    baselines: Baselines,
    outcomes: Outcomes,
    margin: float | None,
    contrasts: Sequence[Declared] = (),
) -> Verdicts:
    """Verdicts on the declared contrasts, corrected as one family, and on all other comparisons, corrected as another:
    over all questions and metrics. A contrast that was declared after a look is of the latter.

    Metrics are compared over seeds, and per example where all trials of a comparison have `outcomes`; average
    precisions on images drawn anew.
    """
    questions = list(_questions(groups, baselines, margin))
    asked = list(_contrasts(groups, baselines, margin, contrasts, {one.key for one in questions}))
    written = {one.key: one for one in asked}
    families = (
        [one for one in asked if one.declared],
        [
            *(one for one in asked if not one.declared),
            *(one for one in questions if one.key not in written),
        ],
    )
    names = {one.first.lineage.group: one.name for one in groups}
    judged = {
        one.key: verdict
        for declared, family in zip((True, False), families, strict=True)
        for one, verdict in zip(family, judge(_compared(family, names, outcomes), declared=declared), strict=True)
    }
    by_arm: dict[str, dict[Arm, Verdict]] = {digest: {} for digest in names}
    by_contrast: dict[str, list[Verdict]] = {digest: [] for digest in names}
    for one in questions:
        by_arm[one.key[0]][one.baseline] = judged[one.key]
    for one in written.values():
        by_contrast[one.key[0]].append(judged[one.key])
    return Verdicts(by_arm, by_contrast)


def _questions(groups: Sequence[Group], baselines: Baselines, margin: float | None) -> Iterator[Asked]:
    for arm, baseline in QUESTIONS:
        for group in (one for one in groups if one.first.arm == arm):
            pairs = baselines.comparable(group, baseline)
            if pairs:
                metric, second = group.first.metric, pairs[0][1].lineage.group
                within = metric.margin if margin is None else margin
                yield Asked(
                    group, second, pairs, metric, name=None, margin=within, change=_change(metric, baseline),
                    baseline=baseline,
                )  # fmt: skip


def _contrasts(
    groups: Sequence[Group],
    baselines: Baselines,
    margin: float | None,
    contrasts: Sequence[Declared],
    asked: set[tuple[str, str, str]],
) -> Iterator[Asked]:
    """Yield the contrasts of which there are results, in the direction of the question where they are one."""
    for one in contrasts:
        first, second = (_group_of(groups, trials) for trials in (one.first, one.second))
        if first is None or second is None:
            continue
        name = one.contrast.metric
        metric = first.first.metric if name is None else first.first.metric_of(name)
        digests = first.first.lineage.group, second.first.lineage.group
        if (*reversed(digests), metric.name) in asked:
            first, second, digests = second, first, digests[::-1]
        pairs = baselines.between(first, second, name)
        if not pairs or metric.better is None:
            continue
        within = margin if one.contrast.margin is None else one.contrast.margin
        yield Asked(
            first, digests[1], pairs, metric, name=name, margin=metric.margin if within is None else within,
            change=_change(metric, second.first.arm), baseline=second.first.arm, declared=not one.seen,
        )  # fmt: skip


def _group_of(groups: Sequence[Group], trials: frozenset[str]) -> Group | None:
    """The group that these trials make up, as far as they are finished."""
    return next((one for one in groups if any(record.trial in trials for record in one.records)), None)


def _change(metric: Metric, baseline: Arm) -> Change:
    return metric.worsening if baseline in ("float", "control") else "gain"


def _compared(family: Sequence[Asked], names: Mapping[str, str], outcomes: Outcomes) -> list[Comparison]:
    """The comparisons with their evidence; resamples of test items are shared by those of one metric and margin."""
    items: dict[tuple[str, str, str], Evidence] = {}
    for metric, margin in dict.fromkeys((one.metric, one.margin) for one in family):
        alike = [one for one in family if (one.metric, one.margin) == (metric, margin)]
        items |= _over_items(alike, metric, margin, outcomes.examples)
    for one in (one for one in family if one.key not in items):
        within = None if one.margin is None else one.margin / one.metric.factor
        if (found := over_images(one.pairs, one.metric, one.name, margin=within, drawn=outcomes.drawn)) is not None:
            items[one.key] = found.scaled(one.metric.factor)
    return [
        Comparison(
            first=one.first.name,
            second=names[one.second],
            seeds=compare_seeds(*gaining(one.pairs, one.name), one.margin),
            items=items.get(one.key),
            change=one.change,
            terms=Terms(one.margin, one.metric.difference_unit, one.metric.decimals, one.metric.largest_difference),
        )
        for one in family
    ]


def _over_items(
    family: Sequence[Asked], metric: Metric, margin: float | None, examples: Examples
) -> dict[tuple[str, str, str], Evidence]:
    """Evidence on what groups gain over those that they are compared with, where examples are at hand."""
    having: list[Asked] = []

    def arrays() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for one in family:
            sides = [[examples(record, one.name) for record in side] for side in zip(*one.pairs, strict=True)]
            sides = sides if metric.better == "higher" else sides[::-1]
            if (found := _stacked(sides)) is not None:
                having.append(one)
                yield found

    evidence = compare_items(arrays(), None if margin is None else margin / metric.factor)
    return {one.key: found.scaled(metric.factor) for one, found in zip(having, evidence, strict=True)}


def _stacked(sides: Sequence[Sequence[np.ndarray | None]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Both sides as (seeds, items); None unless every trial has equally many examples."""
    rows = [row for side in sides for row in side if row is not None]
    if len(rows) < sum(map(len, sides)) or len({row.shape for row in rows}) != 1:
        return None
    half = len(rows) // 2
    return np.stack(rows[:half]), np.stack(rows[half:])
