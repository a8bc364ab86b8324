"""The clip range whose quantized distribution is nearest to the observed one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qat.numerics import MAX_BITS
from qat.observers.equal_bins import bin_of, widened
from qat.observers.observer import Observer, register

BINS = 4096
SOURCE_BINS, SOURCE_START = (
    2048,
    128,
)  # the bins of the published algorithm up to the largest size, and its first threshold
MOST_LEVELS = 2**MAX_BITS
NOWHERE = 1e-12  # the probability of a value where the quantized distribution has none


class Sizes(NamedTuple):
    """Counts of sizes in equal bins over [0, span), the power of two above the largest size, and exact extremes."""

    counts: Float[Array, "channels bins"]
    span: Float[Array, " channels"]
    low: Float[Array, " channels"]
    high: Float[Array, " channels"]


@register
def histogram(candidates: int = 128) -> Observer:
    """Clip sizes at the threshold whose quantized histogram diverges least from the observed one (entropy calibration:
    Migacz 2017, "8-bit inference with TensorRT"; details from the `HistogramCalibrator` of NVIDIA's
    pytorch-quantization, 2021).

    Of a histogram of sizes |x|, whose bin at zero is given the count of its neighbour (exact zeros cost nothing on any
    grid, and there are many behind a ReLU): P is the part below the threshold with all beyond it added to the last
    bin, Q the part below it with each level's count even over the level's occupied bins, and the threshold of least
    sum P log(P / Q) is taken; of equal ones the largest. From 1/16 of the largest size on `candidates` thresholds are
    tried.

    As there: equal bins, at least 2,048 up to the largest size, levels of 128 codes for a signed grid of 8 bits, 256
    for an unsigned one. Different: bins are equal parts of a power of two, so 2,048 to 4,096 of them reach up to the
    largest size; not every bin's edge is tried; Q is 1e-12 where it is zero, in place of an infinite divergence; other
    bits have their own number of levels; an affine range is clipped at the threshold on each side that reaches beyond
    it, with as many levels as codes lie from zero to the threshold. State: 16 KiB a channel. Cost of a batch: one
    count of each value, some 2 ns; of a range: `candidates` times some 10 passes over 4,096 bins a channel.
    """
    if not (isinstance(candidates, int) and candidates >= 2):
        raise ValueError(f"`candidates` must be an integer of at least 2, got {candidates!r}. 128 is the default.")
    fractions = np.linspace(1, SOURCE_START / SOURCE_BINS, candidates).astype(np.float32)

    def nearest_range(s: Sizes, steps: Array, symmetric: bool) -> tuple[Array, Array]:
        def channel(counts: Array, span: Array, low: Array, high: Array) -> tuple[Array, Array]:
            size = jnp.maximum(-low, high)
            below, above = (size, size) if symmetric else (jnp.maximum(-low, 0.0), jnp.maximum(high, 0.0))
            width = span / BINS
            shown = counts.at[0].set(counts[1])
            sums = _from_each(shown), _from_each((shown > 0).astype(jnp.float32))
            used = jnp.floor(size / width) + 1  # bins up to the largest size, included

            def cost(bins: Array) -> Array:
                bound = jnp.minimum(bins * width, size)
                reach = jnp.minimum(below, bound) + jnp.minimum(above, bound)
                levels = jnp.round(steps * (bound / jnp.maximum(reach, width))) + 1
                return divergence(shown, sums, bins, jnp.minimum(levels, bins))

            tried = jnp.maximum(jnp.round(used * fractions), 1)
            bound = jnp.minimum(tried[jnp.argmin(jax.lax.map(cost, tried))] * width, size)
            return -jnp.minimum(below, bound), jnp.minimum(above, bound)

        return jax.vmap(channel)(s.counts, s.span, s.low, s.high)

    return Observer(init=_empty, update=_update, range=nearest_range)


def divergence(
    counts: Float[Array, " bins"], sums: tuple[Array, Array], bins: Array, levels: Array
) -> Float[Array, ""]:
    """Kullback-Leibler divergence of the first `bins` of a histogram, the rest added to the last of them, from the
    same in so many `levels`, each's count even over its bins that are not empty.

    `sums` are, from each bin on, the counts and the number of bins that are not empty.
    """
    place = jnp.arange(BINS, dtype=jnp.float32)
    level = jnp.minimum(jnp.floor((place * levels + 0.5) / bins), MOST_LEVELS - 1).astype(jnp.int32)
    edge = jnp.arange(MOST_LEVELS + 1, dtype=jnp.float32)
    starts = jnp.floor((edge * bins - 0.5) / levels) + 1  # halves keep rounding off the bounds
    starts = jnp.minimum(starts, bins).astype(jnp.int32)
    count, occupied = (x[starts] for x in sums)
    even = (count[:-1] - count[1:]) / jnp.maximum(occupied[:-1] - occupied[1:], 1.0)
    even = jnp.maximum(even, 1.0)  # as a bin that is not empty has; a difference of large sums may not
    even = jax.lax.optimization_barrier(even)[level]  # computed once a level, not once a bin
    total, kept = jnp.maximum(count[0], 1.0), jnp.maximum(count[0] - count[-1], 1.0)

    def term(mass: Array, even: Array) -> Array:
        return mass / total * jnp.log(mass / even * (kept / total))

    last = bins.astype(jnp.int32) - 1
    inner = jnp.sum(jnp.where((counts > 0) & (place < bins - 1), term(counts, even), 0.0))
    return inner + term(counts[last] + count[-1], jnp.where(counts[last] > 0, even[last], NOWHERE * kept))


def _from_each(x: Float[Array, " bins"]) -> Float[Array, " bins_and_one"]:
    """The sum of each entry and all behind it: exact in the tail, where entries are few; zero behind the last."""
    return jnp.append(jnp.cumsum(x[::-1])[::-1], 0.0)


def _empty(channels: int) -> Sizes:
    full = jnp.full(channels, jnp.inf, jnp.float32)
    return Sizes(jnp.zeros((channels, BINS), jnp.float32), jnp.zeros(channels, jnp.float32), full, -full)


def _update(s: Sizes, x: Float[Array, "channels values"]) -> Sizes:
    """Add a batch of values. Where a size falls beyond the span it doubles, and bins merge by twos, exactly."""
    low, high = jnp.minimum(s.low, x.min(-1)), jnp.maximum(s.high, x.max(-1))
    span = jnp.maximum(s.span, _power_of_two(jnp.maximum(jnp.maximum(-low, high), 1e-30)))
    doublings = jnp.where(s.span > 0, jnp.frexp(span)[1] - jnp.frexp(s.span)[1], 0)
    merged = jax.vmap(lambda counts, by: widened(counts, by, first=0))(s.counts, doublings)
    return Sizes(jax.vmap(_count)(merged, span, x), span, low, high)


def _power_of_two(bound: Array) -> Array:
    """The smallest power of two above `bound`, exactly: the compiled `exp2` and `log2` are off by a bit.

    At most the largest whose reciprocal is no subnormal number; values beyond count in the last bin.
    """
    return jnp.ldexp(jnp.ones_like(bound), jnp.minimum(jnp.frexp(bound)[1], 126))


def _count(counts: Array, span: Array, x: Array) -> Array:
    """Add the counts of a batch, summed as integers first: a float32 count above 2**24 would ignore single ones."""
    index = bin_of(jnp.abs(x), BINS / span, BINS, first=0)
    return counts + jnp.zeros(BINS, jnp.int32).at[index].add(1).astype(jnp.float32)
