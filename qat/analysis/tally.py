"""What is counted of a tensor on the device: a histogram, values clipped, energies of signal and noise, range.

Counts are those of one batch, of fewer than 2**32 values a tensor. Bins are equal and centred on zero over a span that
is a power of two: so counts over different spans add up exactly, and how the data is split into batches does not
matter. The span doubles where the range is not known beforehand.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, UInt32

from qat.numerics import ROUNDING, QParams

BINS = 4096
ROUNDED = 0.5 + ROUNDING  # steps by which rounding moves a number, and float32 the number of steps
SMALLEST_EXPONENT = -100  # of a span in which nothing but zeros was seen
MANTISSA_BITS, EXPONENT_BIAS = 23, 127  # of float32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """Summed squares of float values, and of what quantization adds to them."""

    signal: Float[Any, "*stack"]
    noise: Float[Any, "*stack"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tally:
    """Counts over [-2**exponent, 2**exponent), those of values beyond in the bins at the ends; values that clipping
    moves further than rounding would; energies; and the values of the outermost codes, None where they are known."""

    counts: UInt32[Any, "*stack bins"]
    exponent: Int32[Any, "*stack"]
    clipped: UInt32[Any, "*stack"]
    noise: Noise
    low: Float[Any, "*stack"] | None
    high: Float[Any, "*stack"] | None


def add_noise(n: Noise, x: Array, hat: Array) -> Noise:
    """The energies with those of the values `x`, quantized to `hat`, added."""
    x, hat = x.astype(jnp.float32), hat.astype(jnp.float32)
    return Noise(n.signal + jnp.sum(x * x), n.noise + jnp.sum((x - hat) ** 2))


def take_in(t: Tally, x: Array, hat: Array, grid: QParams) -> Tally:
    """The tally with the values `x`, quantized to `hat` on `grid`. Where its range is not known, the span grows to hold
    the values, and the range to that of `grid`."""
    x, zero = x.astype(jnp.float32), 0 if grid.zero_point is None else grid.zero_point
    least, most = ((code - zero).astype(jnp.float32) for code in (grid.qmin, grid.qmax))
    steps = x * (1.0 / grid.scale)
    outside = (steps < least - ROUNDED) | (steps > most + ROUNDED)
    if t.low is not None and t.high is not None:
        alive = _not_zero(x, grid.scale)
        low, high = (jnp.where(alive, code * grid.scale, 0.0) for code in (least, most))
        t = replace(_grown(t, x), low=jnp.minimum(t.low, low.min()), high=jnp.maximum(t.high, high.max()))
    bin_of = jnp.floor(x.reshape(-1) * (BINS // 2 * _power_of_two(-t.exponent)))
    index = jnp.clip(bin_of, -(BINS // 2), BINS // 2 - 1).astype(jnp.int32) + BINS // 2
    clipped = t.clipped + outside.sum(dtype=jnp.uint32)
    return replace(t, counts=t.counts.at[index].add(1), clipped=clipped, noise=add_noise(t.noise, x, hat))


def _not_zero(x: Array, scale: Array) -> Array:
    """Whether any of the values that share a scale is not zero; of zeros alone the scale is arbitrary."""
    axes = tuple(i for i, (n, whole) in enumerate(zip(scale.shape, x.shape, strict=True)) if n < whole)
    return jnp.any(x != 0, axes, keepdims=True)


def _grown(t: Tally, x: Array) -> Tally:
    """The tally over a span that holds the values: bins merge towards the centre."""
    largest = jnp.maximum(jnp.max(jnp.abs(x), initial=0.0), 2.0 ** (SMALLEST_EXPONENT - 1))
    above = (jax.lax.bitcast_convert_type(largest, jnp.int32) >> MANTISSA_BITS) - (EXPONENT_BIAS - 1)
    exponent = jnp.maximum(t.exponent, above)
    doublings = jnp.minimum(exponent - t.exponent, 31)

    def merged(counts: Array) -> Array:
        target = (jnp.arange(-(BINS // 2), BINS // 2) >> doublings) + BINS // 2
        return jnp.zeros_like(counts).at[target].add(counts)

    counts = jax.lax.cond(doublings > 0, merged, lambda counts: counts, t.counts)
    return replace(t, counts=counts, exponent=exponent)


def _power_of_two(exponent: Array) -> Array:
    """2**exponent, exactly: compiled `exp2` is off by a bit."""
    return jax.lax.bitcast_convert_type((exponent + EXPONENT_BIAS) << MANTISSA_BITS, jnp.float32)
