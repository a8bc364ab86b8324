"""Power of the paired tests over seeds, and the seeds that they need: for a study that is yet to be run."""

import functools
from collections.abc import Callable

import numpy as np
from scipy import stats

from qat.lab.stats.estimates import ALPHA
from qat.lab.stats.seeds import MOST, check_margin

POWER = 0.8  # the chance to show what is there that is usually asked for
GRID = 2_000  # points at which the spread that the seeds happen to have is averaged over


def power_of_difference(seeds: int, difference: float, sd: float, comparisons: int = 1) -> float:
    """The chance that the two-sided paired t test shows a true mean `difference`, in its right direction.

    `sd` is the standard deviation of the difference over seeds. Of so many `comparisons` Holm's correction asks one for
    a p of 0.05 / comparisons at most, and less of those that others outdo: this is the chance in the worst case.
    """
    _check(seeds, sd, comparisons)
    critical = stats.t.isf(ALPHA / (2 * comparisons), seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, abs(difference) / sd * np.sqrt(seeds)))


def power_of_equivalence(seeds: int, margin: float, sd: float, comparisons: int = 1, difference: float = 0.0) -> float:
    """The chance that two one-sided paired t tests show a true mean `difference` to be within ± `margin` (TOST;
    Schuirmann 1987), averaged over the spread that the seeds happen to have; `comparisons` as for a difference."""
    _check(seeds, sd, comparisons)
    check_margin(margin)
    critical = stats.t.isf(ALPHA / comparisons, seeds - 1)
    error = sd / np.sqrt(seeds)
    limit = margin - critical * error * _spreads(seeds)
    inside = stats.norm.cdf((limit - difference) / error) - stats.norm.cdf((-limit - difference) / error)
    return float(np.where(limit > 0, inside, 0.0).mean())


@functools.lru_cache(maxsize=256)
def _spreads(seeds: int) -> np.ndarray:
    """Standard deviations that so many seeds happen to have, by that of all, each as likely as another."""
    middles = (np.arange(GRID) + 0.5) / GRID
    return np.sqrt(stats.chi2.ppf(middles, seeds - 1) / (seeds - 1))


def seeds_for(power: Callable[[int], float], wanted: float = POWER) -> int | None:
    """The least number of seeds at which `power`, which grows with them, is as `wanted`; None where 1,000 are too few.

    As `seeds_for(lambda seeds: power_of_difference(seeds, 0.5, 0.3, comparisons=4))`.
    """
    low, high = 1, 2  # too few are too few, enough are enough
    while power(high) < wanted:
        low, high = high, 2 * high
        if low >= MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high if high <= MOST else None


def _check(seeds: int, sd: float, comparisons: int) -> None:
    if seeds < 2:
        raise ValueError(f"`seeds` must be at least 2, got {seeds}: one has no spread to go by.")
    if not (np.isfinite(sd) and sd > 0):
        raise ValueError(f"`sd` must be positive, got {sd}. It is the spread of the difference over seeds.")
    if comparisons < 1:
        raise ValueError(f"`comparisons` must be at least 1, got {comparisons}.")
