"""A histogram of a stream in bounded memory, shared by the observers percentile, histogram and mse; its binning serves
`qat.analysis` too.

Bins are equal and centred on zero; the span is a power of two and doubles when a value falls outside, so that old bins
merge in pairs, exactly. The smallest and largest value are exact too. At most `SAMPLES` values of each channel are
counted from a batch, one at a scattered place in each of equal stretches: an even stride would hit the same channel of
a tensor again and again where the number of channels divides it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy
from jaxtyping import Array, Float, Int32

BINS = 2048
SAMPLES = 8192
GOLDEN = 2654435769  # 2**32 over the golden ratio: its multiples scatter evenly (Knuth)


class Sketch(NamedTuple):
    """Counts of equal bins over [-span, span], exact extremes, and the number of batches added."""

    counts: Float[Array, "channels bins"]
    span: Float[Array, " channels"]
    low: Float[Array, " channels"]
    high: Float[Array, " channels"]
    batches: Int32[Array, ""]


def empty(channels: int) -> Sketch:
    """A sketch of no values; its range is empty (low above high)."""
    full = jnp.full(channels, jnp.inf)
    return Sketch(jnp.zeros((channels, BINS)), jnp.zeros(channels), full, -full, jnp.zeros((), jnp.int32))


def update(s: Sketch, x: Float[Array, "channels values"]) -> Sketch:
    """The sketch with a batch of values added."""
    low, high = jnp.minimum(s.low, x.min(-1)), jnp.maximum(s.high, x.max(-1))
    bound = jnp.maximum(jnp.maximum(-low, high), 1e-30)
    span = jnp.maximum(s.span, _power_of_two(bound))
    doublings = jnp.where(s.span > 0, jnp.frexp(span)[1] - jnp.frexp(s.span)[1], 0)
    merged = jax.vmap(widened)(s.counts, doublings)
    counts = jax.vmap(_count)(merged, span, _sample(x, s.batches))
    return Sketch(counts, span, low, high, s.batches + 1)


def _power_of_two(bound: Array) -> Array:
    """The smallest power of two not below `bound`, exactly: the compiled `exp2` and `log2` are off by a bit.

    At most 2**126, whose reciprocal is a normal number; values beyond it count in the outermost bins.
    """
    mantissa, exponent = jnp.frexp(bound)
    return jnp.ldexp(jnp.ones_like(bound), jnp.minimum(jnp.where(mantissa == 0.5, exponent - 1, exponent), 126))


def _sample(x: Array, batch: Array) -> Array:
    n = x.shape[-1]
    if n <= SAMPLES:
        return x
    number = jnp.arange(SAMPLES, dtype=jnp.int32)
    start = number * (n // SAMPLES) + number * (n % SAMPLES) // SAMPLES
    scattered = (number + batch * SAMPLES).astype(jnp.uint32) * jnp.uint32(GOLDEN) >> 16
    place = start + (scattered % -(-n // SAMPLES)).astype(jnp.int32)
    return x[..., place]


def widened(counts: Any, doublings: Any) -> Any:
    """Counts over a span 2**doublings as wide, arrays of numpy or jax: bins merge towards the centre."""
    half = counts.shape[-1] // 2
    if not isinstance(counts, jax.Array):
        merged = numpy.zeros_like(counts)
        numpy.add.at(merged, (numpy.arange(-half, half) >> min(int(doublings), 31)) + half, counts)
        return merged
    target = (jnp.arange(-half, half) >> jnp.minimum(doublings, 31)) + half
    return jax.lax.cond(doublings > 0, lambda c: jnp.zeros_like(c).at[target].add(c), lambda c: c, counts)


def bin_of(x: Any, per_unit: Any, bins: int) -> Any:
    """The bin that holds each value of an array of numpy or jax, of `bins` equal ones that are centred on zero.

    `per_unit`, a power of two, is how many of them span 1; values beyond are in the bins at the ends.
    """
    np, half = jnp if isinstance(x, jax.Array) else numpy, bins // 2
    return np.clip(np.floor(x * per_unit), -half, half - 1).astype(np.int32) + half


def _count(counts: Array, span: Array, x: Array) -> Array:
    """Add the counts of a batch, summed as integers first: a float32 count above 2**24 would ignore single ones."""
    return counts + jnp.zeros(BINS, jnp.int32).at[bin_of(x, BINS // 2 / span, BINS)].add(1).astype(jnp.float32)


def centers(s: Sketch) -> Float[Array, "channels bins"]:
    """The value that represents each bin: its middle, clipped to the extremes, or an extreme that lies beyond the
    span."""
    middle = ((jnp.arange(BINS, dtype=jnp.float32) + 0.5) / (BINS // 2) - 1.0)[None] * s.span[:, None]
    middle = middle.at[:, 0].min(jnp.where(s.low < -s.span, s.low, 0.0))
    middle = middle.at[:, -1].max(jnp.where(s.high > s.span, s.high, 0.0))
    return jnp.clip(middle, s.low[:, None], s.high[:, None])


def quantile(s: Sketch, fraction: Float[Array, ""] | float) -> Float[Array, " channels"]:
    """The value below which the given fraction of all values lies, to within a bin and never beyond the extremes."""
    cumulative = jnp.cumsum(s.counts, -1)
    index = jnp.argmax(cumulative >= fraction * cumulative[:, -1:], -1)
    edge = index + (jnp.asarray(fraction) > 0.5).astype(index.dtype)
    value = jnp.clip((edge.astype(jnp.float32) / (BINS // 2) - 1.0) * s.span, s.low, s.high)
    return jnp.where(edge >= BINS, s.high, jnp.where(edge <= 0, s.low, value))


SMALLEST = 0.1  # fraction of the full range that is tried
Cost = Callable[[Float[Array, " bins"], Float[Array, " bins"], Array, Array, Array], Array]
"""(bin centers, counts, low, high, steps) -> the cost of clipping to [low, high]."""


def least_cost_range(cost: Cost, s: Sketch, steps: Array, symmetric: bool, candidates: int) -> tuple[Array, Array]:
    """Each channel's observed range, widened to hold zero, times the fraction in [0.1, 1] of least cost. For a
    symmetric grid the range is first widened to be symmetric about zero."""
    fractions = jnp.linspace(1.0, SMALLEST, candidates)

    def channel(center: Array, count: Array, span: Array, low: Array, high: Array) -> tuple[Array, Array]:
        low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
        if symmetric:
            low, high = jnp.minimum(low, -high), jnp.maximum(high, -low)
        c, a, b = center / span, low / span, high / span  # squares of very large values would overflow
        costs = jax.lax.map(lambda f: cost(c, count, a * f, b * f, steps), fractions)
        best = fractions[jnp.argmin(costs)]
        return low * best, high * best

    return jax.vmap(channel)(centers(s), s.counts, s.span, s.low, s.high)


def code_of(center: Array, low: Array, high: Array, steps: Array) -> tuple[Array, Array]:
    """The step of the grid over [low, high], and how many steps from `low` each center is rounded to."""
    step = jnp.maximum((high - low) / steps, 1e-30)
    return step, jnp.round((jnp.clip(center, low, high) - low) / step)
