"""Verdicts on two arms of many that were compared, and their words: better, worse, equivalent or undecided."""

from dataclasses import dataclass
from typing import Literal

from qat.lab.stats.estimates import ALPHA, Doubt, Evidence, Kind
from qat.lab.stats.seeds import MOST, seeds_needed

type Change = Literal["gain", "drop", "rise"]
"""The word for a difference, and its direction: a gain says how much better the first is; a drop, or a rise where lower
is better, how much worse."""


@dataclass(frozen=True)
class Terms:
    """Terms in which a difference is told: `margin`, in `unit`, is the one that does not matter (None: no equivalence
    is asked for), `largest` the largest that there can be (None: any); numbers have so many `decimals` (None: four
    significant digits)."""

    margin: float | None = None
    unit: str = ""
    decimals: int | None = None
    largest: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two arms by name and the evidence about them: over seeds, and over items where arrays of them exist; the word for
    their difference, and its terms."""

    first: str
    second: str
    seeds: Evidence | None = None
    items: Evidence | None = None
    change: Change = "gain"
    terms: Terms = Terms()


@dataclass(frozen=True)
class Verdict:
    """The verdict on `first` against `second`, with the p-values that Holm corrected.

    `kind` holds for what is in `covers`: new seeds, new test items, both, or nothing where it is undecided or identical
    in the seeds that there are. Several seeds decide it; the items do for a single seed. `both` is the evidence on the
    two doubts together: only what it shows too is said of new items beside new seeds. In words the difference is a
    gain, a drop or a rise, as `change` says; the evidence holds how much better the first is. A `declared` comparison
    was written down before the run, and corrected among those alone.
    """

    first: str
    second: str
    kind: Kind
    covers: tuple[Doubt, ...]
    seeds: Evidence | None
    items: Evidence | None
    terms: Terms = Terms()
    change: Change = "gain"
    both: Evidence | None = None
    declared: bool = False

    @property
    def margin(self) -> float | None:
        """The difference that does not matter."""
        return self.terms.margin

    @property
    def unit(self) -> str:
        """The unit of differences."""
        return self.terms.unit

    @property
    def same_items_only(self) -> bool:
        """Whether it is shown for other seeds, and not for other items though those were compared."""
        return self.covers == ("seeds",) and self.items is not None

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
    text = f"{text}{_excludes_zero(verdict, evidence)}."
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


def _excludes_zero(verdict: Verdict, evidence: Evidence) -> str:
    """A remark where interval and corrected p-value seem to disagree."""
    low, high = evidence.difference.low, evidence.difference.high
    if evidence.comparisons == 1 or low is None or high is None or low <= 0 <= high or low == high:
        return ""
    if evidence.difference.points:  # no interval is reported
        return ""
    return f"; that the interval excludes zero is not enough for one of {_family(verdict, evidence)}"


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
    if verdict.both is not None:
        brief = f"{brief}; both doubts together: {_brief(verdict, verdict.both)}"
    if "items" in verdict.covers:
        return f"It holds for new seeds, and for new test items as well ({brief})."
    kind = (verdict.both or verdict.items).kind
    return f"It holds for new seeds on the same test items; for new items it is {kind} ({brief})."


def _test(verdict: Verdict, evidence: Evidence) -> str:
    """Interval, p-value, and how the p-value was found."""
    equivalent = verdict.kind == "equivalent"
    how = evidence.test
    if equivalent:
        how = "TOST" if evidence.over == "seeds" else "of a difference beyond the margin"
    among = f", corrected for {_family(verdict, evidence)}" if evidence.comparisons > 1 else ""
    p = _p(evidence.p_equivalence if equivalent else evidence.p_difference)
    return f"{_interval(verdict, evidence)}{p}, {how}{among}"


def _family(verdict: Verdict, evidence: Evidence) -> str:
    """The comparisons that a p-value is corrected for."""
    n = evidence.comparisons
    return f"{n} declared contrasts" if verdict.declared else f"{n} comparisons"


def _brief(verdict: Verdict, evidence: Evidence) -> str:
    p = _p(evidence.p_equivalence if evidence.kind == "equivalent" else evidence.p_difference)
    sample = "" if evidence.over == "both" else f"{_sample(evidence)}, "
    return f"{sample}{_interval(verdict, evidence)}{p}"


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
    largest = verdict.terms.largest
    return bound if largest is None else max(-largest, min(bound, largest))


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
    decimals = verdict.terms.decimals
    return f"{value + 0.0:.4g}" if decimals is None else f"{round(value, decimals) + 0.0:.{decimals}f}"
