"""Many comparisons judged at once: p-values corrected for their number, verdicts on what remains."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from qat.lab.stats.estimates import CONFIDENCE, Doubt, Estimate, Evidence
from qat.lab.stats.seeds import check_margin
from qat.lab.stats.verdict import Comparison, Verdict

P_VALUES = ("p_difference", "p_equivalence", "p_not_better", "p_not_worse")


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, corrected so that a false claim among all arms is as rare as in one (Holm 1979).

    Raises `ValueError` where one is no probability.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"`p_values` must be in [0, 1], got {list(p_values)}. Leave out arms that were not tested.")
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected.tolist()


def judge(comparisons: Sequence[Comparison], *, declared: bool = False) -> list[Verdict]:
    """A verdict on each, corrected for asking of so many comparisons: one false among all is as rare as 1 in 20.

    Differences and equivalences are corrected as families of their own, since of one comparison only one can be claimed
    falsely; and so are those over seeds, over items and over both, which are other questions. A difference smaller than
    the margin counts as equivalent even where it is surely not zero. Evidence is of differences that are positive where
    the first is better. `declared` comparisons are those that were written down before the run. Raises `ValueError`
    where a comparison has no evidence.
    """
    for one in comparisons:
        if one.terms.margin is not None:
            check_margin(one.terms.margin)
        if one.seeds is None and one.items is None:
            raise ValueError(f"`comparisons` must have evidence, but {one.first!r} against {one.second!r} has none.")
    together = [combined(one.seeds, one.items, one.terms.margin) for one in comparisons]
    families = [one.seeds for one in comparisons], [one.items for one in comparisons], together
    corrected = zip(comparisons, *map(_corrected, families), strict=True)
    return [replace(_verdict(*found), declared=declared) for found in corrected]


def combined(seeds: Evidence | None, items: Evidence | None, margin: float | None) -> Evidence | None:
    """Evidence on new seeds and new items at once; None without several seeds and items.

    The variances of the mean difference over seeds and over items are added, with Satterthwaite's degrees of freedom.
    What seeds and items make together is in both, so the interval is on the wide side. Each p-value is at least that of
    either doubt alone, whose tests hold for few seeds and few items that differ.
    """
    if seeds is None or items is None or seeds.difference.half_width is None:
        return None
    n, mean = seeds.difference.n, seeds.difference.mean
    tail = (1 - CONFIDENCE) / 2
    over_seeds = (seeds.difference.half_width / stats.t.isf(tail, n - 1)) ** 2
    over_items = ((items.difference.half_width or 0.0) / stats.norm.isf(tail)) ** 2
    variance = over_seeds + over_items
    difference, own = Estimate(mean, mean, mean, n), dict[str, float]()
    if variance > 0:
        of_items = max(1, items.difference.n - 1)
        freedom, se = variance**2 / (over_seeds**2 / (n - 1) + over_items**2 / of_items), float(np.sqrt(variance))
        width = float(stats.t.isf(tail, freedom)) * se
        difference = Estimate(mean, mean - width, mean + width, n)
        own["p_difference"] = 2 * float(stats.t.sf(abs(mean) / se, freedom))
        if margin is not None:
            below = float(stats.t.cdf((mean - margin) / se, freedom))
            above = float(stats.t.sf((mean + margin) / se, freedom))
            own |= {"p_not_better": below, "p_not_worse": above, "p_equivalence": max(below, above)}
    p = {name: _largest(getattr(seeds, name), getattr(items, name), own.get(name, 0.0)) for name in P_VALUES}
    untested = Evidence("both", difference, None, None, "t test over seeds and items")
    return _with_p_values(untested, p)


def _largest(first: float | None, second: float | None, third: float) -> float | None:
    return None if first is None or second is None else max(first, second, third)


def _verdict(one: Comparison, seeds: Evidence | None, items: Evidence | None, both: Evidence | None) -> Verdict:
    several = seeds is not None and seeds.difference.n > 1
    deciding = seeds if several else items
    kind = "undecided" if deciding is None else deciding.kind
    covers: tuple[Doubt, ...] = ()
    if kind in ("better", "worse", "equivalent"):
        as_well = several and both is not None and both.kind == kind
        covers = ("seeds", "items") if as_well else ("seeds",) if several else ("items",)
    return Verdict(one.first, one.second, kind, covers, seeds, items, one.terms, change=one.change, both=both)


def _corrected(evidence: Sequence[Evidence | None]) -> list[Evidence | None]:
    """The evidence with Holm's p-values; what was not tested is no member of the family."""
    families = {name: _holm_of([one and getattr(one, name) for one in evidence]) for name in P_VALUES}
    tested = max(1, sum(p is not None for p in families["p_difference"]))
    return [
        one and replace(_with_p_values(one, {name: family[i] for name, family in families.items()}), comparisons=tested)
        for i, one in enumerate(evidence)
    ]


def _with_p_values(evidence: Evidence, p: Mapping[str, float | None]) -> Evidence:
    return replace(
        evidence,
        p_difference=p["p_difference"],
        p_equivalence=p["p_equivalence"],
        p_not_better=p["p_not_better"],
        p_not_worse=p["p_not_worse"],
    )


def _holm_of(p_values: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(corrected) for p in p_values]
