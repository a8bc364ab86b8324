"""Whether two arms differ, or are equivalent, for new test items: McNemar's test and the paired bootstrap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import stats

from qat.lab.stats.estimates import CONFIDENCE, Estimate, Evidence

RESAMPLES = 9_999
BOOTSTRAP = "paired bootstrap"
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


FEW = 25  # items that differ: of fewer, exact tests; neither chi-squared nor resampling holds
BLOCK = 1 << 23  # numbers resampled at once: 64 MiB


@dataclass(frozen=True)
class McNemar:
    """McNemar's test: of `n` items `only_first` were right in the first arm alone, `only_second` in the second alone.

    `p_value` is that of "both are right equally often".
    """

    only_first: int
    only_second: int
    n: int
    p_value: float
    exact: bool


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's test (1947) of two arrays of 0 and 1 over the same items.

    Exact (binomial) where fewer than 25 items differ, else chi-squared with continuity correction.
    """
    x, y = _paired(first, second)
    if len(x) != 1 or not (np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all()):
        raise ValueError("`first` and `second` must be 0 or 1 for each item. For other numbers use `paired_bootstrap`.")
    both, only_first, only_second = (int(np.sum(mask)) for mask in (x * y > 0, x > y, x < y))
    neither = x.size - both - only_first - only_second
    exact = only_first + only_second < FEW
    from statsmodels.stats.contingency_tables import mcnemar as test

    found = test([[both, only_first], [only_second, neither]], exact=exact)
    p = float(found.pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    return McNemar(only_first, only_second, x.size, p, exact)


def paired_bootstrap(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Evidence:
    """The mean of `first - second` over new test items, with a percentile interval of 9,999 resamples.

    Arrays of shape (items,) or (seeds, items): items are resampled, their differences averaged over the seeds.
    """
    return compare_items([(first, second)], None, seed)[0]


def compare_items(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]], margin: float | None = None, seed: int = 0
) -> list[Evidence]:
    """The evidence about `first - second` that would hold for new test items, for each pair of arrays.

    Arrays are of shape (items,) or (seeds, items), where items are drawn anew and seeds averaged over. The interval is
    a paired bootstrap's. p is McNemar's for one seed of 0 and 1; elsewhere an exact sign test over the items that
    differ where those are fewer than 25, else the bootstrap's. Where so few differ, equivalence is shown by an exact
    binomial test: of values in [0, 1] no mean can differ by more than the share of items that differ; for other values
    p is 1. Where none differs there is no interval. `pairs` is read as it is needed; all share their resamples. Raises
    `ValueError` for arrays that do not pair up, and for NaN.
    """
    found = []
    for block in _blocks(_Items.of(*pair) for pair in pairs):
        resampled = resample(np.stack([one.differences for one in block]), margin, seed)
        found += [_evidence(items, again, margin) for items, again in zip(block, resampled, strict=True)]
    return found


def compare_draws(
    mean: float, differences: Float[np.ndarray, " draws"], items: int, margin: float | None = None
) -> Evidence:
    """The evidence on a difference that is no mean over the items, from its values on items drawn anew.

    `mean` is the difference on the `items` as they are. The interval is the bootstrap's percentile one; p-values go by
    the standard error of the draws and a normal distribution, as a few hundred draws have no tails to count in. Where
    no draw differs from another there is no interval, and p is 1.
    """
    error = float(differences.std(ddof=1))
    if error <= 1e-12 * max(1.0, abs(mean)):
        close = None if margin is None else float(mean != 0)
        return Evidence("items", Estimate(mean, None, None, items), 1.0, close, BOOTSTRAP, close, close)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (tail, 1 - tail))
    p = 2 * float(stats.norm.sf(abs(mean) / error))
    estimate = Estimate(mean, float(low), float(high), items)
    if margin is None:
        return Evidence("items", estimate, p, None, BOOTSTRAP)
    close = float(stats.norm.cdf((mean - margin) / error)), float(stats.norm.sf((mean + margin) / error))
    return Evidence("items", estimate, p, max(close), BOOTSTRAP, *close)


@dataclass(frozen=True)
class _Items:
    """Differences per item, the mean of its seeds; `mcnemar` is given for one seed of 0 and 1."""

    differences: np.ndarray
    bounded: bool
    mcnemar: McNemar | None

    @classmethod
    def of(cls, first: ArrayLike, second: ArrayLike) -> "_Items":
        x, y = _paired(first, second)
        binary = len(x) == 1 and all(np.isin(side, (0, 1)).all() for side in (x, y))
        bounded = min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1
        return cls((x - y).mean(0), bool(bounded), mcnemar(x, y) if binary else None)


def _blocks(items: Iterable[_Items]) -> Iterator[list[_Items]]:
    """Yield blocks of comparisons with equally many items, each as large as memory allows."""
    block: list[_Items] = []
    for one in items:
        size = len(one.differences)
        if block and (len(block[0].differences) != size or (len(block) + 1) * size > BLOCK):
            yield block
            block = []
        block.append(one)
    if block:
        yield block


def _evidence(items: _Items, resampled: Resampled, margin: float | None) -> Evidence:
    differences = items.differences
    positive, negative = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    few = positive + negative < FEW
    p, test = resampled.p_difference, BOOTSTRAP
    if items.mcnemar is not None:
        p, test = items.mcnemar.p_value, "exact McNemar" if items.mcnemar.exact else "McNemar"
    elif few:
        p, test = _sign_test(positive, positive + negative), "sign test over the few items that differ"
    close = resampled.p_not_better, resampled.p_not_worse
    if few and margin is not None:
        close = _few_beyond(items, positive, margin), _few_beyond(items, negative, margin)
    equivalent = None if close[0] is None or close[1] is None else max(close[0], close[1])
    none = not positive + negative
    low, high = (None, None) if none else (resampled.low, resampled.high)
    difference = Estimate(float(differences.mean()), low, high, len(differences))
    return Evidence("items", difference, p, equivalent, test, *close)


def _few_beyond(items: _Items, differing: int, margin: float) -> float:
    """p of "a share `margin` of all items or more differs in this direction", which a mean of `margin` needs."""
    if not items.bounded:
        return 1.0
    return 0.0 if margin >= 1 else float(stats.binomtest(differing, len(items.differences), margin, "less").pvalue)


def _sign_test(positive: int, differing: int) -> float:
    return float(stats.binomtest(positive, differing).pvalue) if differing else 1.0


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of shape (seeds, items)."""
    x, y = (np.asarray(side, dtype=np.float64) for side in (first, second))
    if x.shape != y.shape or x.ndim not in (1, 2) or not x.size:
        raise ValueError(
            "`first` and `second` must be of one shape, (items,) or (seeds, items), and not empty, "
            f"got {x.shape} and {y.shape}."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            "`first` and `second` must be finite, got NaN or infinity. Leave out items that have no value."
        )
    return np.atleast_2d(x), np.atleast_2d(y)
