"""The drop of a metric between two models on the same examples, with the upper end of its one-sided interval."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import stats

from qat.lab.stats.estimates import CONFIDENCE
from qat.tasks.metric import Metric

RESAMPLES = 200
SMALL = 1e-6  # of the metric: as far as a mean over examples may be from the task's own number

type Arrays = Mapping[str, np.ndarray]


def paired_drop(
    metric: Metric, summary: Callable[[Arrays], Mapping[str, float]], before: Arrays, after: Arrays, seed: int = 0
) -> tuple[float, float]:
    """The difference by which `metric` is worse `after` than `before`, as it is shown, and the value that this is below
    with 95 % confidence for further examples.

    Of 0 and 1 by example the interval is that of Agresti and Min (2005) for matched pairs, which keeps its level where
    few examples differ, or none; of other values by example Student's t on the differences; of a metric that is no mean
    over examples the paired bootstrap of the summary. Equal arrays have it too: other examples might differ.
    """
    values = [summary(arrays)[metric.name] for arrays in (before, after)]
    drop = metric.sign * (values[0] - values[1])
    sides = [arrays.get(metric.name) for arrays in (before, after)]
    if all(_is_mean(side, value) for side, value in zip(sides, values, strict=True)):
        x, y = (np.asarray(side, np.float64) for side in sides)
        upper = _upper(metric.sign * (x - y), binary=bool(np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all()))
    else:
        upper = _resampled(metric, summary, before, after, seed)
    return metric.shown(drop), metric.shown(upper)


def _is_mean(side: np.ndarray | None, value: float) -> bool:
    return side is not None and side.ndim == 1 and abs(float(np.mean(side)) - value) <= SMALL * max(1.0, abs(value))


def _upper(drops: np.ndarray, binary: bool) -> float:
    n = len(drops)
    if binary:
        worse, better = int(np.sum(drops > 0)), int(np.sum(drops < 0))
        mean = (worse - better) / (n + 2)
        spread = math.sqrt((worse + better + 1) - (worse - better) ** 2 / (n + 2)) / (n + 2)
        return mean + float(stats.norm.ppf(CONFIDENCE)) * spread
    if n < 2:
        return math.inf
    return float(np.mean(drops) + stats.t.ppf(CONFIDENCE, n - 1) * np.std(drops, ddof=1) / math.sqrt(n))


def _resampled(
    metric: Metric, summary: Callable[[Arrays], Mapping[str, float]], before: Arrays, after: Arrays, seed: int
) -> float:
    n, rng = len(next(iter(before.values()))), np.random.default_rng(seed)
    drops = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, n, n)
        old, new = (summary({name: x[rows] for name, x in arrays.items()}) for arrays in (before, after))
        drops.append(metric.sign * (old[metric.name] - new[metric.name]))
    return float(np.quantile(drops, CONFIDENCE))
