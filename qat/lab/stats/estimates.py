"""Means with 95 % intervals: over seeds by Student's t."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ROUNDING = 1e-12  # of a value: below it float64 does not tell values apart
FEW = 4
"""Seeds from which on an interval is shown; that of fewer is so wide that their values say more."""
SINGLE_ROUNDING = 1e-7  # of a metric: below it float32, in which metrics may be computed, makes differences by itself


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds or items and its interval; `low` and `high` are None where there is too little for one, as
    for a single seed. `values` are the seeds' own, where it is of seeds."""

    mean: float
    low: float | None
    high: float | None
    n: int
    values: tuple[float, ...] = ()

    @property
    def points(self) -> tuple[float, ...]:
        """The values of seeds that differ and are too few for an interval, which are to be shown in its place."""
        return self.values if 1 < len(self.values) < FEW and self.low != self.high else ()

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval, the number behind the plus-minus sign."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def scaled(self, factor: float) -> "Estimate":
        """Convert the estimate to another unit; `factor` is positive."""
        low, high = (None if bound is None else factor * bound for bound in (self.low, self.high))
        return Estimate(factor * self.mean, low, high, self.n, tuple(factor * value for value in self.values))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean over seeds with its t interval. It speaks of new seeds, not of new test data."""
    x = sample(values, "values")
    return _estimate(x, ROUNDING * float(np.abs(x).max()))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of `first - second`, seed by seed: what the seeds share cancels, and the interval shrinks."""
    x, y = paired_samples(first, second)
    return _estimate(x - y, rounding(x, y))


def sample(values: Sequence[float], name: str) -> np.ndarray:
    """The values of an argument as an array; `ValueError` unless they are finite numbers, at least one."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"`{name}` must be finite numbers, at least one, got {list(values)}.")
    return x


def paired_samples(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of the same seeds; `ValueError` where they cannot pair up."""
    if len(first) != len(second):
        raise ValueError(f"`first` and `second` must pair up seed by seed, got {len(first)} and {len(second)} values.")
    return sample(first, "first"), sample(second, "second")


def rounding(first: np.ndarray, second: np.ndarray) -> float:
    """The spread that floating point alone may give to differences between two samples."""
    return SINGLE_ROUNDING * float(max(np.abs(first).max(), np.abs(second).max()))


def _estimate(x: np.ndarray, resolution: float) -> Estimate:
    mean, values = float(x.mean()), tuple(x.tolist())
    if len(x) == 1:
        return Estimate(mean, None, None, 1, values)
    if np.ptp(x) <= resolution:
        return Estimate(mean, mean, mean, len(x), values)
    low, high = stats.t.interval(CONFIDENCE, len(x) - 1, loc=mean, scale=x.std(ddof=1) / np.sqrt(len(x)))
    return Estimate(mean, float(low), float(high), len(x), values)


type Kind = Literal["better", "worse", "equivalent", "identical", "undecided"]
"""What is shown of the first arm against the second; identical ones are so in every seed, of which there are several,
and too few to show that they are equivalent for others."""

type Doubt = Literal["seeds", "items"]
"""What a result is to hold for: other seeds of the same training, or other test items for the models as trained."""

ALPHA = 0.05


@dataclass(frozen=True)
class Evidence:
    """`difference` is first minus second over seeds or items, as `over` says, both being such that more is better.

    `p_difference` is the p-value of "there is no difference", `p_equivalence` that of "the difference is the margin or
    more", `p_not_better` and `p_not_worse` those of the same in one direction: small where the first is shown not to be
    better, or worse, by the margin. Each is corrected for so many `comparisons`, and None where there is too little to
    test, or no margin. `test` names that of the difference. `identical` are arms that are equal in every one of several
    seeds.
    """

    over: Doubt | Literal["both"]
    difference: Estimate
    p_difference: float | None
    p_equivalence: float | None
    test: str
    p_not_better: float | None = None
    p_not_worse: float | None = None
    comparisons: int = 1
    identical: bool = False

    def scaled(self, factor: float) -> "Evidence":
        """Convert the difference to another unit."""
        return replace(self, difference=self.difference.scaled(factor))

    @property
    def kind(self) -> Kind:
        """The kind of result that the evidence shows at the 5 % level; a difference surely smaller than the margin is
        no difference.
        """
        if self.p_equivalence is not None and self.p_equivalence <= ALPHA:
            return "equivalent"
        if self.identical:
            return "identical"
        if self.p_difference is None or self.p_difference > ALPHA:
            return "undecided"
        return "better" if self.difference.mean > 0 else "worse"
