"""A verdict in plain words."""

from typing import TYPE_CHECKING

from qat.stats.evidence import ALPHA, Evidence
from qat.stats.seeds import MOST, seeds_needed

if TYPE_CHECKING:
    from qat.stats.verdict import Verdict

RELATION = {"better": "better than", "worse": "worse than", "equivalent": "equivalent to"}


def sentence(verdict: "Verdict") -> str:
    """What is shown, by what, and what it holds for."""
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


def _open(verdict: "Verdict", evidence: Evidence) -> str:
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


def _of_items(verdict: "Verdict") -> str:
    """A remark where items decide what seeds do not."""
    if verdict.items is None or verdict.items.kind == "undecided":
        return ""
    brief = _brief(verdict, verdict.items)
    return f" For these seeds alone, new test items would show it {verdict.items.kind} ({brief})."


def _one_sided(verdict: "Verdict", evidence: Evidence) -> str:
    """What is shown at least: that it is not better, or not worse, by the margin."""
    for direction, p in (("better", evidence.p_not_better), ("worse", evidence.p_not_worse)):
        if p is not None and p <= ALPHA:
            return f", only that it is no {direction} within {_margin(verdict)} ({_p(p)})"
    return ""


def _excludes_zero(evidence: Evidence) -> str:
    """A remark where interval and corrected p-value seem to disagree."""
    low, high = evidence.difference.low, evidence.difference.high
    if evidence.arms == 1 or low is None or high is None or low <= 0 <= high or low == high:
        return ""
    if evidence.difference.points:  # no interval is told
        return ""
    return f"; that the interval excludes zero is not enough for one of {evidence.arms} arms"


def _wanted(verdict: "Verdict", evidence: Evidence) -> str:
    """How many seeds would decide it, where their spread tells."""
    half_width, known = evidence.difference.half_width, evidence.difference.n > 2  # two say next to nothing of a spread
    if verdict.margin is None or not half_width or half_width <= verdict.margin or not known:
        return "More seeds are needed."
    n, narrow = seeds_needed(evidence.difference, verdict.margin), f"narrow the interval to ± {_margin(verdict)}"
    if n is None:
        return f"Their spread is such that not even {MOST:,} seeds would {narrow}."
    return f"About {n} seeds would {narrow}."


def _scope(verdict: "Verdict") -> str:
    """Which doubt the verdict covers, and which not."""
    if verdict.covers == ("items",):
        return "It holds for new test items; it says nothing of other seeds."
    if verdict.items is None:
        return "It holds for new seeds on the same test items."
    brief = _brief(verdict, verdict.items)
    if "items" in verdict.covers:
        return f"It holds for new seeds, and for new test items as well ({brief})."
    return f"It holds for new seeds on the same test items; for new items it is {verdict.items.kind} ({brief})."


def _test(verdict: "Verdict", evidence: Evidence) -> str:
    """Interval, p-value, and how the p-value was found."""
    equivalent = verdict.kind == "equivalent"
    how = evidence.test
    if equivalent:
        how = "TOST" if evidence.over == "seeds" else "of a difference beyond the margin"
    arms = f", corrected for {evidence.arms} arms" if evidence.arms > 1 else ""
    p = _p(evidence.p_equivalence if equivalent else evidence.p_difference)
    return f"{_interval(verdict, evidence)}{p}, {how}{arms}"


def _brief(verdict: "Verdict", items: Evidence) -> str:
    p = _p(items.p_equivalence if items.kind == "equivalent" else items.p_difference)
    return f"{_sample(items)}, {_interval(verdict, items)}{p}"


def _interval(verdict: "Verdict", evidence: Evidence) -> str:
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


def _side(verdict: "Verdict") -> int:
    """1 where numbers are told as first minus second, -1 the other way: what a claim says by how much, and what is open
    as a gain or a drop."""
    if verdict.kind in ("better", "worse"):
        return 1 if verdict.kind == "better" else -1
    return 1 if verdict.told == "gain" else -1


def _within(verdict: "Verdict", bound: float) -> float:
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


def _difference(verdict: "Verdict", evidence: Evidence) -> str:
    """`a drop of +0.17 points`: positive is worse in a drop, and better in a gain."""
    value = _number(verdict, _side(verdict) * evidence.difference.mean)
    return f"a {verdict.told} of {'' if value.startswith('-') else '+'}{value}"


def _margin(verdict: "Verdict") -> str:
    return f"{verdict.margin:g} {verdict.unit}".rstrip()


def _number(verdict: "Verdict", value: float) -> str:
    return f"{_digits(verdict, value)} {verdict.unit}".rstrip()


def _digits(verdict: "Verdict", value: float) -> str:
    """Two decimals of points; four significant digits of what has no unit."""
    return f"{round(value, 2) + 0.0:.2f}" if verdict.unit else f"{value + 0.0:.4g}"
