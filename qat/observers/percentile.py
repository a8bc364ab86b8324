"""A range that clips a given share of the outermost values."""

from qat.observers import sketch
from qat.observers.observer import Observer, register


@register
def percentile(p: float = 99.99) -> Observer:
    """From the (100 - p)-th to the p-th percentile of all observed values, to within a bin of a streaming histogram.

    `p` in (50, 100], in percent (Wu et al. 2020, arXiv 2004.09602).
    """
    if not 50 < p <= 100:
        raise ValueError(
            f"`p` must be in (50, 100] percent, got {p}. 99.99 clips one value in ten thousand at each end."
        )
    tail = 1 - p / 100
    return Observer(
        init=sketch.empty,
        update=sketch.update,
        range=lambda s, steps, symmetric: (sketch.quantile(s, tail), sketch.quantile(s, 1 - tail)),
    )
