"""Counts of a tensor over all batches, in numpy, and the statistics that follow from them."""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np

from qat.analysis.histogram import AT_BOUND, BINS, SMALLEST_EXPONENT, Tally, clip_range
from qat.analysis.layers import Histogram
from qat.core.state import ClipRange
from qat.core.tensors import Weight
from qat.core.weights import by_channel
from qat.numerics import QTensor
from qat.observers.equal_bins import bin_of, widened

SHOWN = 64  # bins of a histogram
HALF = BINS // 2


@dataclass(frozen=True)
class Energy:
    """Summed squares of float values and of their quantization errors."""

    signal: float = 0.0
    noise: float = 0.0

    def __add__(self, other: Any) -> "Energy":
        return Energy(self.signal + float(other.signal), self.noise + float(other.noise))

    @property
    def sqnr_db(self) -> float | None:
        """Signal over noise in dB; None where either is zero."""
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 and self.noise > 0 else None

    def checked(self, name: str) -> "Energy":
        """The energies; `ValueError` where they are not finite."""
        if not math.isfinite(self.signal + self.noise):
            raise ValueError(
                f"NaN, infinity or numbers too large to square in {name!r}. "
                "Check the data, the parameters and the ranges."
            )
        return self


@dataclass(frozen=True)
class Counts:
    """The counts of a `Tally`, summed over all batches."""

    counts: np.ndarray
    exponent: int
    clipped: int
    _: KW_ONLY
    energy: Energy
    low: float
    high: float

    def __add__(self, t: Tally) -> "Counts":
        exponent = max(self.exponent, int(t.exponent))
        added = widened(np.asarray(t.counts, np.int64), exponent - int(t.exponent))
        counts = widened(self.counts, exponent - self.exponent) + added
        low, high = min(self.low, float(t.low)), max(self.high, float(t.high))
        clipped, energy = self.clipped + int(t.clipped), self.energy + t.noise
        return Counts(counts, exponent, clipped, energy=energy, low=low, high=high)

    @property
    def clipped_fraction(self) -> float | None:
        """The fraction of values clipped, None where there are no values."""
        values = int(self.counts.sum())
        return self.clipped / values if values else None

    @property
    def histogram(self) -> Histogram:
        """A histogram of 64 bins over clip range and values, at most the clip range's width beyond it on either
        side."""
        exponent = self.exponent if self.exponent > SMALLEST_EXPONENT else 0
        unit = math.ldexp(1.0, exponent) / HALF
        low, high = math.floor(self.low / unit), math.ceil(self.high / unit)
        places = np.flatnonzero(self.counts) - HALF
        first, last = (int(places[0]), int(places[-1]) + 1) if places.size else (low, high)
        start, stop = min(low, max(first, 2 * low - high)), max(high, min(last, 2 * high - low))
        each = max(-(-(stop - start) // SHOWN), 1)
        shown = np.zeros(SHOWN, np.int64)
        np.add.at(shown, np.clip((np.arange(-HALF, HALF) - start) // each, 0, SHOWN - 1), self.counts)
        edges = tuple(unit * (start + each * i) for i in range(SHOWN + 1))
        return Histogram(edges, tuple(shown.tolist()))


def empty_counts(low: float = 0.0, high: float = 0.0) -> Counts:
    """Empty counts of a tensor with the clip range [low, high]."""
    return Counts(np.zeros(BINS, np.int64), span_of(low, high), 0, energy=Energy(), low=low, high=high)


def span_of(low: float, high: float) -> int:
    """The exponent of a span that holds the clip range [low, high] and its width again on either side."""
    bound = max(high, -low) + (high - low)
    return max(math.frexp(bound)[1], SMALLEST_EXPONENT) if bound > 0 else SMALLEST_EXPONENT


PIECE = 2**22  # values that are counted at once


def weight_counts(
    w: Weight, x: Any, q: QTensor, clip: ClipRange, moved: tuple[Any, Any]
) -> Iterator[tuple[tuple[int, ...], Counts]]:
    """Count the values of a stored weight from its float values `x` and its integers, in numpy.

    Yields an index and counts for each layer of the scans that slice it, one empty index where none does. Its range is
    the calibrated one times the first of `moved`, plus the second.
    """
    scan_lengths = w.shape[: w.depth]

    def rows(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(*scan_lengths, -1, values.shape[-1])

    def bound(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(*scan_lengths, -1, 1)

    x, codes, scale = rows(by_channel(w, x)), rows(by_channel(w, q.codes)), bound(q.scale)
    zero = np.zeros(scale.shape, np.int32) if q.zero_point is None else bound(q.zero_point)
    if w.spec.dynamic:
        low, high = clip_range(w.spec.grid, x.min(-1, keepdims=True), x.max(-1, keepdims=True))
    else:
        ends = clip_range(w.spec.grid, bound(clip.low), bound(clip.high))
        stretch, shift = (bound(np.broadcast_to(one, q.scale.shape)) for one in moved)
        low, high = (end * stretch + shift for end in ends)
    dequantized = (codes - zero.astype(np.float32)) * scale
    for layer in np.ndindex(*scan_lengths):
        yield layer, _count_rows(x[layer], dequantized[layer], low[layer], high[layer])


def _count_rows(x: np.ndarray, dequantized: np.ndarray, low: np.ndarray, high: np.ndarray) -> Counts:
    """Count the values of rows, each with a clip range of its own, with their values after quantization."""
    total = empty_counts(float(low.min()), float(high.max()))
    axis = int(x.shape[0] < x.shape[1])  # the longer axis, along which the array is cut into pieces
    whole = (np.broadcast_to(part, x.shape) for part in (x, dequantized, low, high))
    for piece in zip(*(np.array_split(part, -(-x.size // PIECE), axis) for part in whole), strict=True):
        total = _more(total, *piece)
    return total


def _more(total: Counts, x: np.ndarray, dequantized: np.ndarray, low: np.ndarray, high: np.ndarray) -> Counts:
    energy = total.energy + Energy(_squares(x), _squares(x - dequantized))
    if not math.isfinite(energy.signal + energy.noise):
        return replace(total, energy=energy)
    index = bin_of(x.ravel(), np.float32(math.ldexp(HALF, -total.exponent)), BINS)
    outside = (x < low * np.float32(AT_BOUND)) | (x > high * np.float32(AT_BOUND))
    clipped = total.clipped + int(np.count_nonzero(outside))
    return replace(total, counts=total.counts + np.bincount(index, minlength=BINS), clipped=clipped, energy=energy)


def _squares(x: np.ndarray) -> float:
    """The sum of squares in float64."""
    return float(np.sum(np.square(x, dtype=np.float64)))
