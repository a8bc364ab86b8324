"""Verdicts on two arms of many that were compared: better, worse, equivalent or undecided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qat.lab.stats.estimates import ALPHA, Doubt, Evidence, Kind
from qat.lab.stats.seeds import MOST, check_margin, seeds_needed


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, corrected so that a false claim among all arms is as rare as in one (Holm 1979).

    Raises `ValueError` where one is no probability.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"`p_values` must be in [0, 1], got {list(p_values)}. Leave out arms that were not tested.")
    if len(p_values) < 2:  # statsmodels collects garbage at each call: not for nothing
        return list(p_values)
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]


type Change = Literal["gain", "drop", "rise"]
"""The word for a difference, and its direction: a gain says how much better the first is; a drop, or a rise where lower
is better, how much worse."""

P_VALUES = ("p_difference", "p_equivalence", "p_not_better", "p_not_worse")


@dataclass(frozen=True)
class Comparison:
    """Two arms by name and the evidence about them: over seeds, and over items where arrays of them exist; and the
    word for their difference."""

    first: str
    second: str
    seeds: Evidence | None = None
    items: Evidence | None = None
    change: Change = "gain"


@dataclass(frozen=True)
class Verdict:
    """The verdict on `first` against `second`, with the p-values that Holm corrected.

    `kind` holds for what is in `covers`: new seeds, new test items, both, or nothing where it is undecided or identical
    in the seeds that there are. Several seeds decide it; the items do for a single seed. `margin`, in `unit`, is the
    difference that does not matter (None: no equivalence was asked for), `largest` the largest that there can be (None:
    any); numbers have so many `decimals` (None: four significant digits). In words the difference is a gain, a drop or
    a rise, as `change` says; the evidence holds how much better the first is.
    """

    first: str
    second: str
    kind: Kind
    covers: tuple[Doubt, ...]
    seeds: Evidence | None
    items: Evidence | None
    margin: float | None
    unit: str
    largest: float | None = None
    decimals: int | None = None
    change: Change = "gain"

    @property
    def deciding(self) -> Evidence:
        """The evidence that decided: over several seeds, else over items, else the difference of the single seed."""
        several = self.seeds is not None and self.seeds.difference.n > 1
        found = self.seeds if several else self.items or self.seeds
        assert found is not None
        return found

    @property
    def of_these_models(self) -> Kind | None:
        """The verdict that new test items would give on the models as trained, where nothing is shown for new seeds;
        None where they leave it undecided too, or the seeds identical.
        """
        if self.kind == "identical" or "seeds" in self.covers or self.items is None or self.items.kind == "undecided":
            return None
        return self.items.kind

    @property
    def text(self) -> str:
        """A sentence or a few, with n, interval and corrected p."""
        return sentence(self)


def judge(
    comparisons: Sequence[Comparison],
    margin: float | None = None,
    *,
    unit: str = "",
    decimals: int | None = None,
    largest: float | None = None,
) -> list[Verdict]:
    """A verdict on each, corrected for asking one question of so many arms: one false among all is as rare as 1 in 20.

    Differences and equivalences are corrected as families of their own, since of one arm only one can be claimed
    falsely; and so are those over seeds and over items, which are other questions. A difference smaller than the
    margin counts as equivalent even where it is surely not zero; none is reported as more than `largest`, and all in
    `unit` with so many `decimals`. Evidence is of differences that are positive where the first is better. Raises
    `ValueError` where a comparison has no evidence.
    """
    if margin is not None:
        check_margin(margin)
    for one in comparisons:
        if one.seeds is None and one.items is None:
            raise ValueError(f"`comparisons` must have evidence, but {one.first!r} against {one.second!r} has none.")
    seeds, items = _corrected([c.seeds for c in comparisons]), _corrected([c.items for c in comparisons])
    return [
        replace(_verdict(one, over_seeds, over_items), margin=margin, unit=unit, decimals=decimals, largest=largest)
        for one, over_seeds, over_items in zip(comparisons, seeds, items, strict=True)
    ]


def _verdict(one: Comparison, seeds: Evidence | None, items: Evidence | None) -> Verdict:
    several = seeds is not None and seeds.difference.n > 1
    found = [evidence for evidence in (seeds if several else None, items) if evidence is not None]
    kind = found[0].kind if found else "undecided"
    shown = kind in ("better", "worse", "equivalent")
    covers: list[Doubt] = [evidence.over for evidence in found if shown and evidence.kind == kind]
    return Verdict(one.first, one.second, kind, tuple(covers), seeds, items, None, "", change=one.change)


def _corrected(evidence: Sequence[Evidence | None]) -> list[Evidence | None]:
    """The evidence with Holm's p-values; what was not tested is no arm of the family."""
    families = {name: _holm_of([one and getattr(one, name) for one in evidence]) for name in P_VALUES}
    tested = sum(p is not None for p in families["p_difference"])
    return [
        one and replace(one, arms=max(1, tested), **{name: p_values[i] for name, p_values in families.items()})
        for i, one in enumerate(evidence)
    ]


def _holm_of(p_values: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]


RELATION = {"better": "better than", "worse": "worse than", "equivalent": "equivalent to"}


def sentence(verdict: Verdict) -> str:
    """Word the verdict: its result, the evidence, and the scope."""
    evidence = verdict.deciding
    if verdict.kind == "identical":
        same = f"{verdict.first} scores the same as {verdict.second} in each of {_sample(evidence)}"
        return f"{same}. Whether it does in other seeds is not shown.{_of_items(verdict)}"
    if verdict.kind == "undecided":
        return f"{verdict.first} against {verdict.second} is undecided: {_open(verdict, evidence)}"
    claim = f"{verdict.first} is {RELATION[verdict.kind]} {verdict.second}"
    if verdict.kind == "equivalent":
        shown = f"{claim} within {_margin(verdict)}: {_difference(verdict, evidence)}"
    else:
        shown = f"{claim} by {_number(verdict, abs(evidence.difference.mean))}"
    return f"{shown} over {_sample(evidence)} ({_test(verdict, evidence)}). {_scope(verdict)}"


def _open(verdict: Verdict, evidence: Evidence) -> str:
    """Why it is undecided, and what would decide it."""
    difference = _difference(verdict, evidence)
    if evidence.difference.n == 1:
        over = "which supports no interval over seeds" if evidence.over == "seeds" else "which supports nothing"
        return f"{difference} on {_sample(evidence)}, {over}. More {evidence.over} are needed."
    neither = "no difference"
    if verdict.margin is not None:
        neither = f"neither a difference nor equivalence within {_margin(verdict)}{_one_sided(verdict, evidence)}"
    text = f"{difference} over {_sample(evidence)} ({_test(verdict, evidence)}), which shows {neither}"
    text = f"{text}{_excludes_zero(evidence)}."
    if evidence.over == "items":
        return f"{text} This is about the models as trained and says nothing of other seeds. More seeds are needed."
    return f"{text} {_wanted(verdict, evidence)}{_of_items(verdict)}"


def _of_items(verdict: Verdict) -> str:
    """A remark where items decide what seeds do not."""
    if verdict.items is None or verdict.items.kind == "undecided":
        return ""
    brief = _brief(verdict, verdict.items)
    return f" For these seeds alone, new test items would show it {verdict.items.kind} ({brief})."


def _one_sided(verdict: Verdict, evidence: Evidence) -> str:
    """Word the one-sided result: that it is not better, or not worse, by the margin."""
    for direction, p in (("better", evidence.p_not_better), ("worse", evidence.p_not_worse)):
        if p is not None and p <= ALPHA:
            return f", only that it is no {direction} within {_margin(verdict)} ({_p(p)})"
    return ""


def _excludes_zero(evidence: Evidence) -> str:
    """A remark where interval and corrected p-value seem to disagree."""
    low, high = evidence.difference.low, evidence.difference.high
    if evidence.arms == 1 or low is None or high is None or low <= 0 <= high or low == high:
        return ""
    if evidence.difference.points:  # no interval is reported
        return ""
    return f"; that the interval excludes zero is not enough for one of {evidence.arms} arms"


def _wanted(verdict: Verdict, evidence: Evidence) -> str:
    """Word the number of seeds that would decide it, where their spread tells."""
    half_width, known = evidence.difference.half_width, evidence.difference.n > 2  # two say next to nothing of a spread
    if verdict.margin is None or not half_width or half_width <= verdict.margin or not known:
        return "More seeds are needed."
    n, narrow = seeds_needed(evidence.difference, verdict.margin), f"narrow the interval to ± {_margin(verdict)}"
    if n is None:
        return f"Their spread is such that not even {MOST:,} seeds would {narrow}."
    return f"About {n} seeds would {narrow}."


def _scope(verdict: Verdict) -> str:
    """Word the doubts that the verdict covers, and those that it does not."""
    if verdict.covers == ("items",):
        return "It holds for new test items; it says nothing of other seeds."
    if verdict.items is None:
        return "It holds for new seeds on the same test items."
    brief = _brief(verdict, verdict.items)
    if "items" in verdict.covers:
        return f"It holds for new seeds, and for new test items as well ({brief})."
    return f"It holds for new seeds on the same test items; for new items it is {verdict.items.kind} ({brief})."


def _test(verdict: Verdict, evidence: Evidence) -> str:
    """Interval, p-value, and how the p-value was found."""
    equivalent = verdict.kind == "equivalent"
    how = evidence.test
    if equivalent:
        how = "TOST" if evidence.over == "seeds" else "of a difference beyond the margin"
    arms = f", corrected for {evidence.arms} arms" if evidence.arms > 1 else ""
    p = _p(evidence.p_equivalence if equivalent else evidence.p_difference)
    return f"{_interval(verdict, evidence)}{p}, {how}{arms}"


def _brief(verdict: Verdict, items: Evidence) -> str:
    p = _p(items.p_equivalence if items.kind == "equivalent" else items.p_difference)
    return f"{_sample(items)}, {_interval(verdict, items)}{p}"


def _interval(verdict: Verdict, evidence: Evidence) -> str:
    low, high = evidence.difference.low, evidence.difference.high
    if low is None or high is None:
        return "none of them differs, " if evidence.over == "items" and evidence.difference.n > 1 else ""
    if low == high:
        return ""
    side = _side(verdict)
    if points := evidence.difference.points:
        return f"seed by seed {', '.join(_digits(verdict, side * one) for one in points)}, "
    low, high = (_within(verdict, bound) for bound in sorted((side * low, side * high)))
    return f"95 % interval {_digits(verdict, low)} to {_digits(verdict, high)}, "


def _side(verdict: Verdict) -> int:
    """1 where numbers tell how much better the first is, -1 how much worse: what a claim says by how much, and what is
    open as a gain, a drop or a rise."""
    if verdict.kind in ("better", "worse"):
        return 1 if verdict.kind == "better" else -1
    return 1 if verdict.change == "gain" else -1


def _within(verdict: Verdict, bound: float) -> float:
    """The bound of an interval, or the largest difference that there can be."""
    return bound if verdict.largest is None else max(-verdict.largest, min(bound, verdict.largest))


def _p(p: float | None) -> str:
    if p is None:
        return "no p-value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 2 * ALPHA else f"p = {p:.3f}"


def _sample(evidence: Evidence) -> str:
    n = evidence.difference.n
    if evidence.over == "items":
        return f"{n:,} test item{'s' if n > 1 else ''}"
    return f"{n} seeds" if n > 1 else "one seed"


def _difference(verdict: Verdict, evidence: Evidence) -> str:
    """`a drop of +0.17 points`: positive is worse in a drop or a rise, and better in a gain."""
    value = _number(verdict, _side(verdict) * evidence.difference.mean)
    return f"a {verdict.change} of {'' if value.startswith('-') else '+'}{value}"


def _margin(verdict: Verdict) -> str:
    return f"{verdict.margin:g} {verdict.unit}".rstrip()


def _number(verdict: Verdict, value: float) -> str:
    return f"{_digits(verdict, value)} {verdict.unit}".rstrip()


def _digits(verdict: Verdict, value: float) -> str:
    """A number with the verdict's decimals, or four significant digits."""
    decimals = verdict.decimals
    return f"{value + 0.0:.4g}" if decimals is None else f"{round(value, decimals) + 0.0:.{decimals}f}"
