"""What a handful of seeds supports: means and paired differences with 95 % Student t intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and its interval; `low` and `high` are None for a single seed, which supports none."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval, the number behind the plus-minus sign."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def estimate(values: Sequence[float]) -> Estimate:
    """Mean over seeds with its t interval. It speaks of new seeds, not of new test data."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"`values` must be finite numbers, at least one, got {list(values)}.")
    mean = float(x.mean())
    if len(x) == 1:
        return Estimate(mean, None, None, 1)
    if np.ptp(x) == 0:
        return Estimate(mean, mean, mean, len(x))
    low, high = stats.ttest_1samp(x, 0.0).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(low), float(high), len(x))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of `first - second`, seed by seed: what the seeds share cancels, and the interval shrinks."""
    if len(first) != len(second):
        raise ValueError(f"`first` and `second` must pair up seed by seed, got {len(first)} and {len(second)} values.")
    return estimate([a - b for a, b in zip(first, second, strict=True)])
