"""Counts of a tensor, taken on the device: a histogram, values clipped, energies of signal and noise, range.

Counts are of one batch, with fewer than 2**32 values of a tensor. Bins are equal and centred on zero over a span that
is a power of two, so that counts over different spans add up exactly, however the data is split into batches. The span
of a dynamic range doubles as values require."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy
from jaxtyping import Array, Float, Int32, UInt32

from qat.numerics import WITH_ZERO_POINT
from qat.observers.equal_bins import bin_of, widened
from qat.recipes.recipe import TensorSpec

BINS = 4096
AT_BOUND = 1 + 2.0**-20  # a value at the bound counts as inside, however float32 rounds both
SMALLEST_EXPONENT = -100  # of the span of a tensor of zeros


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """Summed squares of float values and of their quantization errors."""

    signal: Float[Any, "*scans"]
    noise: Float[Any, "*scans"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tally:
    """Counts over [-2**exponent, 2**exponent), where the outermost bins hold the values beyond; the number of values
    outside the clip range; energies; and the clip range, for a dynamic one the union over all calls so far."""

    counts: UInt32[Any, "*scans bins"]
    exponent: Int32[Any, "*scans"]
    clipped: UInt32[Any, "*scans"]
    _: KW_ONLY
    noise: Noise
    low: Float[Any, "*scans"]
    high: Float[Any, "*scans"]


def clip_range(grid: str, low: Any, high: Any) -> tuple[Any, Any]:
    """The range that a grid of the given kind spans for values from `low` to `high`, arrays of numpy or jax.

    Every range holds zero; a symmetric one is centred on it, an unsigned one starts there.
    """
    np = jnp if isinstance(low, jax.Array) else numpy
    if grid not in WITH_ZERO_POINT:
        bound = np.maximum(-low, high)
        return -bound, bound
    return np.zeros_like(low) if grid == "unsigned" else np.minimum(low, 0), np.maximum(high, 0)


def add_noise(n: Noise, x: Array, dequantized: Array) -> Noise:
    """Add the energies of the values `x` and of their errors after quantization."""
    x, dequantized = x.astype(jnp.float32), dequantized.astype(jnp.float32)
    return Noise(n.signal + jnp.sum(x * x), n.noise + jnp.sum((x - dequantized) ** 2))


def update(t: Tally, x: Array, dequantized: Array, spec: TensorSpec) -> Tally:
    """Add the values `x`, with their values after quantization, to the tally."""
    x = x.astype(jnp.float32)
    low, high = t.low, t.high
    if spec.dynamic:
        low, high = clip_range(spec.grid, x.min(initial=0.0), x.max(initial=0.0))
        t = replace(_grown(t, x), low=jnp.minimum(t.low, low), high=jnp.maximum(t.high, high))
    outside = (x < low * AT_BOUND) | (x > high * AT_BOUND)
    index = bin_of(x.reshape(-1), jnp.ldexp(jnp.float32(BINS // 2), -t.exponent), BINS)
    clipped = t.clipped + outside.sum(dtype=jnp.uint32)
    return replace(t, counts=t.counts.at[index].add(1), clipped=clipped, noise=add_noise(t.noise, x, dequantized))


def _grown(t: Tally, x: Array) -> Tally:
    """The tally over a span wide enough for the values: bins merge towards the centre."""
    largest = jnp.maximum(jnp.max(jnp.abs(x), initial=0.0), 2.0 ** (SMALLEST_EXPONENT - 1))
    exponent = jnp.maximum(t.exponent, jnp.frexp(largest)[1])
    return replace(t, counts=widened(t.counts, exponent - t.exponent), exponent=exponent)
