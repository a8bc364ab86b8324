"""A histogram of a stream in bounded memory with bins as fine as the values are small, for `percentile` and `mse`.

Bins are the leading bits of a float32, its sign, its exponent and the first bits of its fraction: all bins of an octave
are equally wide, and a bin's width is at most a fixed share of its values (as in DDSketch with a linear mapping:
Masson, Rim, Lee 2019, arXiv 1908.10693). So many octaves below the largest value are kept; smaller values share the
bins at zero. When a larger value comes, bins move down, exactly: none is ever split. The smallest and largest value are
kept exactly. Every value counts, at about the cost of two more passes over the batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

FRACTION_BITS = 23  # of a float32
UNIT_EXPONENTS = 27, 253  # biased: 2**-100, less is as good as zero, and 2**126, the largest with a normal reciprocal


class Sketch(NamedTuple):
    """Counts of bins from the most negative to the most positive, exact extremes, and the biased exponent of the
    largest size."""

    counts: Float[Array, "channels bins"]
    exponent: Int32[Array, " channels"]
    low: Float[Array, " channels"]
    high: Float[Array, " channels"]


@dataclass(frozen=True)
class Bins:
    """The resolution of a sketch: 2**`bits` bins an octave, of `octaves` octaves on each side of zero."""

    bits: int
    octaves: int

    @property
    def side(self) -> int:
        """The number of bins on one side of zero."""
        return self.octaves << self.bits

    def empty(self, channels: int) -> Sketch:
        """Make a sketch of nothing; its range is empty (low above high)."""
        full = jnp.full(channels, jnp.inf, jnp.float32)
        return Sketch(jnp.zeros((channels, 2 * self.side), jnp.float32), jnp.zeros(channels, jnp.int32), full, -full)

    def update(self, s: Sketch, x: Float[Array, "channels values"]) -> Sketch:
        """Add a batch of values."""
        low, high = jnp.minimum(s.low, x.min(-1)), jnp.maximum(s.high, x.max(-1))
        exponent = jnp.maximum(s.exponent, _as_integer(jnp.maximum(-low, high)) >> FRACTION_BITS)
        moved = jax.vmap(self._moved)(s.counts, (exponent - s.exponent) << self.bits)
        return Sketch(jax.vmap(self._count)(moved, exponent, x), exponent, low, high)

    def edges(self, s: Sketch) -> tuple[Float[Array, "channels bins"], Float[Array, "channels bins"]]:
        """The lower and the upper edge of each bin, within the smallest and largest value seen."""
        first = ((s.exponent + 1) << self.bits)[:, None] - self.side
        code = jnp.maximum(first + jnp.arange(self.side + 1), 0) << (FRACTION_BITS - self.bits)
        size = jax.lax.bitcast_convert_type(code, jnp.float32).at[:, 0].set(0.0)
        edge = jnp.concatenate([-size[:, :0:-1], size], -1)
        edge = jnp.clip(edge, s.low[:, None], s.high[:, None])
        return edge[:, :-1], edge[:, 1:]

    def _moved(self, counts: Array, by: Array) -> Array:
        """The counts with each bin `by` bins nearer to zero, and no nearer than the bins at zero."""
        place = jnp.arange(self.side)
        below, above = counts[: self.side][::-1], counts[self.side :]
        target = jnp.maximum(place - by, 0)
        sides = [jnp.zeros_like(c).at[target].add(c) for c in (below, above)]
        return jnp.where(by > 0, jnp.concatenate([sides[0][::-1], sides[1]]), counts)

    def _count(self, counts: Array, exponent: Array, x: Array) -> Array:
        """Add the counts of a batch, summed as integers first: a float32 count above 2**24 would ignore single ones."""
        size = _as_integer(jnp.abs(x)) >> (FRACTION_BITS - self.bits)
        place = jnp.clip(size - ((exponent + 1) << self.bits) + self.side, 0, self.side - 1)
        index = jnp.where(x < 0, self.side - 1 - place, self.side + place)
        return counts + jnp.zeros(2 * self.side, jnp.int32).at[index].add(1).astype(jnp.float32)


def unit_of(s: Sketch) -> Float[Array, " channels"]:
    """The power of two next below the largest size: values divided by it can be squared, however large or small."""
    return jax.lax.bitcast_convert_type(jnp.clip(s.exponent, *UNIT_EXPONENTS) << FRACTION_BITS, jnp.float32)


def _as_integer(size: Array) -> Array:
    """The bits of floats that are not negative: integers in the same order."""
    return jax.lax.bitcast_convert_type(size.astype(jnp.float32), jnp.int32)
