"""Histograms of equal bins over a span that doubles, exactly: shared by the observer `histogram` and `qat.analysis`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy


def widened(counts: Any, doublings: Any, first: int | None = None) -> Any:
    """Counts over a span 2**doublings as wide, arrays of numpy or jax: bins merge towards zero.

    `first` is the number of the first bin, where bin 0 begins at zero; by default zero is in the middle.
    """
    bins = counts.shape[-1]
    start = -(bins // 2) if first is None else first
    if not isinstance(counts, jax.Array):
        merged = numpy.zeros_like(counts)
        numpy.add.at(merged, (numpy.arange(start, start + bins) >> min(int(doublings), 31)) - start, counts)
        return merged
    target = (jnp.arange(start, start + bins) >> jnp.minimum(doublings, 31)) - start
    return jax.lax.cond(doublings > 0, lambda c: jnp.zeros_like(c).at[target].add(c), lambda c: c, counts)


def bin_of(x: Any, per_unit: Any, bins: int, first: int | None = None) -> Any:
    """The bin that holds each value of an array of numpy or jax, of `bins` equal ones; see `widened` for `first`.

    `per_unit`, a power of two, is how many of them span 1; values beyond are in the bins at the ends.
    """
    np = jnp if isinstance(x, jax.Array) else numpy
    first = -(bins // 2) if first is None else first
    return np.clip(np.floor(x * per_unit), first, first + bins - 1).astype(np.int32) - first
