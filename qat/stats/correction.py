"""Correction for asking the same question of many arms."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, corrected so that a false claim among all arms is as rare as in one (Holm 1979).

    Raises `ValueError` where one is no probability.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"`p_values` must be in [0, 1], got {list(p_values)}. Leave out arms that were not tested.")
    if len(p_values) < 2:  # statsmodels collects garbage at each call: not for nothing
        return list(p_values)
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]]
