"""A range that leaves out a given share of the outermost values."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.observers.observer import Observer, register
from qat.observers.sketch import Bins, Sketch

BINS = Bins(bits=6, octaves=32)  # a bin is at most 1/64 of its values wide


@register
def percentile(p: float = 99.99) -> Observer:
    """Clip at the (100 - p)-th and the p-th percentile of all values seen (Wu et al. 2020, arXiv 2004.09602, who take
    p-th percentiles of sizes; here each end has its own).

    `p` in (50, 100] is in percent. A percentile is known to 1/64 of its size on tails of any weight, down to 2**-32 of
    the largest value; values of a bin count as evenly spread over it. State: 16 KiB a channel. Cost of a batch: one
    count of each value, some 2 ns.
    """
    if not 50 < p <= 100:
        raise ValueError(
            f"`p` must be in (50, 100] percent, got {p}. 99.99 clips one value in ten thousand at each end."
        )
    return Observer(
        init=BINS.empty, update=BINS.update, range=lambda s, steps, symmetric: _central_range(s, 1 - p / 100)
    )


def _central_range(s: Sketch, tail: float) -> tuple[Array, Array]:
    """The values that leave out the share `tail` at each end."""
    lower, upper = BINS.edges(s)
    low = jax.vmap(_quantile, (0, 0, 0, None))(s.counts, lower, upper, tail)
    high = -jax.vmap(_quantile, (0, 0, 0, None))(s.counts[:, ::-1], -upper[:, ::-1], -lower[:, ::-1], tail)
    return jnp.clip(low, s.low, s.high), jnp.clip(high, s.low, s.high)


def _quantile(
    counts: Float[Array, " bins"], lower: Float[Array, " bins"], upper: Float[Array, " bins"], share: float
) -> Float[Array, ""]:
    """The value below which a share of all lies, counted from below, where few values are counted without error."""
    cumulative = jnp.cumsum(counts)
    wanted = share * cumulative[-1]
    at = jnp.argmax(cumulative > wanted)
    within = (wanted - (cumulative[at] - counts[at])) / jnp.maximum(counts[at], 1)
    return lower[at] + (upper[at] - lower[at]) * jnp.clip(within, 0.0, 1.0)
