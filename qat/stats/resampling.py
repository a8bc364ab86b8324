"""Means of differences over resampled items, many arms at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from qat.stats.estimates import CONFIDENCE

RESAMPLES = 9_999
BATCH = 1 << 21  # indices drawn at once


@dataclass(frozen=True)
class Resampled:
    """The percentile interval of one arm's mean difference, and p-values read off its resamples (None: no margin)."""

    low: float | None
    high: float | None
    p_difference: float | None
    p_not_better: float | None
    p_not_worse: float | None


def resample(differences: Float[np.ndarray, "arms items"], margin: float | None, seed: int) -> list[Resampled]:
    """Bootstrap each arm's mean over the items (Efron and Tibshirani 1993); a single item supports nothing.

    To resample paired differences is to resample the pairs. The interval is the percentile one: for a mean of many
    items BCa's corrections are of order 1/n, and it costs n² and fails where nearly all items agree. All arms see the
    same resamples, so a thousand of them cost little more than one.
    """
    arms, n = differences.shape
    if n == 1:
        return [Resampled(None, None, None, None, None)] * arms

    def means(indices: Int[np.ndarray, "resamples items"], axis: int) -> Float[np.ndarray, "arms resamples"]:
        assert axis == -1
        counts = np.stack([np.bincount(row, minlength=n) for row in np.atleast_2d(indices)])
        return differences @ counts.T.astype(np.float64) / n

    found = stats.bootstrap(
        (np.arange(n),),
        means,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH // n),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return [
        Resampled(float(low), float(high), _differs(again), _above(again, margin), _above(-again, margin))
        for low, high, again in zip(*found.confidence_interval, found.bootstrap_distribution, strict=True)
    ]


def _differs(means: np.ndarray) -> float:
    """Twice the share of resamples on the rarer side of zero, in which the sample itself counts as one."""
    rounding = 1e-12 * max(float(np.abs(means).max()), np.finfo(np.float64).tiny)
    rarer = min(int(np.sum(means <= rounding)), int(np.sum(means >= -rounding)))
    return min(1.0, 2 * (1 + rarer) / (1 + len(means)))


def _above(means: np.ndarray, margin: float | None) -> float | None:
    """The share of resamples at or above the margin, in which the sample itself counts as one."""
    return None if margin is None else (1 + int(np.sum(means >= margin))) / (1 + len(means))
