"""Whether two arms differ, or are equivalent, for new seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from qat.lab.stats.estimates import CONFIDENCE, Estimate, Evidence, paired_difference, paired_samples, rounding

MOST = 1000  # seeds that are worth counting


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a mean difference over `n` pairs.

    A small `p_not_better` shows that the first is less than `margin` above the second, a small `p_not_worse` that it is
    less than that below; `p_value`, the larger, is that of both. All are None for a single pair.
    """

    margin: float
    p_not_better: float | None
    p_not_worse: float | None
    n: int

    @property
    def p_value(self) -> float | None:
        """Small where the difference lies within the margin on both sides."""
        if self.p_not_better is None or self.p_not_worse is None:
            return None
        return max(self.p_not_better, self.p_not_worse)


def equivalence(first: Sequence[float], second: Sequence[float], margin: float) -> Equivalence:
    """Is `first - second`, paired by seed, within ± `margin`? TOST with paired t tests (Schuirmann 1987).

    "QAT is no better than PTQ within 0.3" is `equivalence(qat, ptq, 0.3).p_not_better`. Where all differences are the
    same there is no spread for a t test, and exact sign tests stand in, as in `compare_seeds`.
    """
    x, y = paired_samples(first, second)
    check_margin(margin)
    if len(x) == 1:
        return Equivalence(margin, None, None, 1)
    if (same := _same_difference(x, y)) is not None:
        below, above = (_sign_test(len(x), inside) for inside in (same < margin, same > -margin))
        return Equivalence(margin, below, above, len(x))
    from statsmodels.stats.weightstats import ttost_paired

    _, (_, p_above, _), (_, p_below, _) = ttost_paired(x, y, -margin, margin)
    return Equivalence(margin, float(p_below), float(p_above), len(x))


def compare_seeds(first: Sequence[float], second: Sequence[float], margin: float | None = None) -> Evidence:
    """The paired t test of `first - second`, and their equivalence where a margin is given.

    One seed has no p-values. Where all differences are the same to rounding there is no spread for a t test, whose p
    would be zero however few the seeds: the exact sign test stands in, with p = 1 where the difference is zero.
    """
    x, y = paired_samples(first, second)
    difference = paired_difference(x.tolist(), y.tolist())
    p, test = _difference_test(x, y)
    identical = len(x) > 1 and _same_difference(x, y) == 0
    if margin is None:
        return Evidence("seeds", difference, p, None, test, identical=identical)
    close = equivalence(x.tolist(), y.tolist(), margin)
    both = close.p_not_better, close.p_not_worse
    return Evidence("seeds", difference, p, close.p_value, test, *both, identical=identical)


def seeds_needed(difference: Estimate, half_width: float, most: int = MOST) -> int | None:
    """The number of seeds that narrow the t interval to ± `half_width`, going by the spread seen; None where more than
    `most` do.

    The spread of a few seeds is itself uncertain: within a factor of two of the truth at best.
    """
    if difference.half_width is None:
        raise ValueError("`difference` must be of two seeds or more: one has no spread to go by.")
    n = np.arange(2, most + 1)
    critical = stats.t.isf((1 - CONFIDENCE) / 2, n - 1)
    spread = difference.half_width / critical[difference.n - 2] * np.sqrt(difference.n)
    enough = critical * spread / np.sqrt(n) <= half_width
    return int(n[np.argmax(enough)]) if enough.any() else None


def detectable(seeds: int, arms: int = 1) -> float:
    """The least mean difference that the paired t test of so many seeds, two at least, shows for each of some arms that
    Holm's correction is for, in standard deviations of the difference over seeds."""
    if seeds < 2:
        raise ValueError(f"`seeds` must be at least 2, got {seeds}: one has no spread to go by.")
    return float(stats.t.isf((1 - CONFIDENCE) / (2 * arms), seeds - 1) / np.sqrt(seeds))


def check_margin(margin: float) -> None:
    """Raise `ValueError` unless the margin is positive and finite."""
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"`margin` must be positive, got {margin}. It is the largest difference that does not matter.")


def _difference_test(x: np.ndarray, y: np.ndarray) -> tuple[float | None, str]:
    if len(x) == 1:
        return None, "none of one seed"
    same = _same_difference(x, y)
    if same is None:
        return float(stats.ttest_rel(x, y).pvalue), "paired t test"
    if same == 0:
        return 1.0, "sign test, as no seed differs"
    return min(1.0, 2 * _sign_test(len(x), inside=True)), "sign test, as all seeds differ alike"


def _same_difference(x: np.ndarray, y: np.ndarray) -> float | None:
    """The difference that all pairs share, zero where it is rounding alone; None where they differ."""
    noise = rounding(x, y)
    if np.ptp(x - y) > noise:
        return None
    mean = float((x - y).mean())
    return mean if abs(mean) > noise else 0.0


def _sign_test(n: int, inside: bool) -> float:
    """One-sided p of `n` of `n` pairs on one side of a bound."""
    return float(stats.binomtest(n if inside else 0, n, alternative="greater").pvalue)
