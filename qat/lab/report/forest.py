"""Comparisons as the bars of a forest plot: each difference with its interval and the margin of equivalence."""

from collections.abc import Sequence
from dataclasses import dataclass

from qat.lab.report.summary import Row
from qat.lab.report.table import contrasts, exploratory
from qat.lab.runs.record import Arm
from qat.lab.stats import Evidence, Kind, Verdict

type Ends = tuple[float, float] | None

ASKED: dict[tuple[Arm, Arm], str] = {
    ("qat", "ptq"): "QAT against PTQ",
    ("qat", "control"): "QAT against the control",
    ("ptq", "float"): "PTQ against float",
}
DECLARED, CHANGES = "declared contrasts", "each arm against the time before"
MOST = 600  # bars of one page


@dataclass(frozen=True)
class Bar:
    """A comparison of `first` with `second`: how much better the first is, in `unit`, whichever way its metric goes.

    `interval` is that of the evidence which decided, over `n` seeds or items, and `both` that over seeds and items
    together; where the seeds are too few for one, `seeds` holds their differences. `asked` is the question that it
    belongs to, `kind` the verdict, and `alone` that on the models as trained.
    """

    asked: str
    first: str
    second: str
    kind: Kind
    alone: Kind | None
    mean: float
    interval: Ends
    both: Ends
    seeds: tuple[float, ...]
    n: int
    over: str
    p: float | None
    margin: float | None
    unit: str
    decimals: int | None


def bars(rows: Sequence[Row], declared: str = DECLARED) -> list[Bar]:
    """The `declared` contrasts, then all other comparisons by question, as far as a page can show them."""
    free = {id(one) for one in exploratory(rows)}
    others = [
        (name, verdict)
        for (arm, baseline), name in ASKED.items()
        for row in rows
        if row.arm == arm and (verdict := row.verdicts.get(baseline)) is not None and id(verdict) in free
    ]
    return [_bar(name, one) for name, one in [*((declared, one) for one in contrasts(rows)), *others][:MOST]]


def _bar(asked: str, verdict: Verdict) -> Bar:
    evidence = verdict.deciding
    points = evidence.difference.points
    return Bar(
        asked=asked,
        first=verdict.first,
        second=verdict.second,
        kind=verdict.kind,
        alone=verdict.of_these_models,
        mean=evidence.difference.mean,
        interval=None if points else _ends(verdict, evidence),
        both=None if points else _ends(verdict, verdict.both),
        seeds=points,
        n=evidence.difference.n,
        over=evidence.over,
        p=evidence.p_equivalence if verdict.kind == "equivalent" else evidence.p_difference,
        margin=verdict.margin,
        unit=verdict.unit,
        decimals=verdict.terms.decimals,
    )


def _ends(verdict: Verdict, evidence: Evidence | None) -> Ends:
    """The interval, as far as there can be such differences."""
    if evidence is None or evidence.difference.low is None or evidence.difference.high is None:
        return None
    most = verdict.terms.largest
    low, high = evidence.difference.low, evidence.difference.high
    return (low, high) if most is None else (max(low, -most), min(high, most))
