"""Weights counted in numpy: programs for all their shapes would take longer to compile than numpy takes to count."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from qat.analysis.seen import HALF, Energy, Seen, nothing_seen
from qat.analysis.tally import AT_BOUND, BINS, clip_range
from qat.numerics import QTensor
from qat.state import Clip
from qat.tensors import Weight
from qat.weights import by_channel

PIECE = 2**22  # values counted at once


def weight_seen(w: Weight, x: Any, q: QTensor, clip: Clip, stretch: Any) -> Iterator[tuple[tuple[int, ...], Seen]]:
    """What is seen of a stored weight, its float values `x` and its integers all in numpy; its range is `stretch` times
    the calibrated one. By layer of the scans that slice it, an empty index where none does."""
    stack = w.shape[: w.depth]

    def rows(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(*stack, -1, values.shape[-1])

    def bound(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(*stack, -1, 1)

    x, codes, scale = rows(by_channel(w, x)), rows(by_channel(w, q.codes)), bound(q.scale)
    zero = np.zeros(scale.shape, np.int32) if q.zero_point is None else bound(q.zero_point)
    if w.spec.dynamic:
        low, high = clip_range(w.spec.grid, x.min(-1, keepdims=True), x.max(-1, keepdims=True))
    else:
        ends = clip_range(w.spec.grid, bound(clip.low), bound(clip.high))
        low, high = (end * bound(np.broadcast_to(stretch, q.scale.shape)) for end in ends)
    hat = (codes - zero.astype(np.float32)) * scale
    for layer in np.ndindex(*stack):
        yield layer, _rows_seen(x[layer], hat[layer], low[layer], high[layer])


def _rows_seen(x: np.ndarray, hat: np.ndarray, low: np.ndarray, high: np.ndarray) -> Seen:
    """What is seen of rows with a clip range each, quantized to `hat`."""
    seen = nothing_seen(float(low.min()), float(high.max()))
    axis = int(x.shape[0] < x.shape[1])  # along which rows or columns are cut to pieces
    whole = (np.broadcast_to(part, x.shape) for part in (x, hat, low, high))
    for piece in zip(*(np.array_split(part, -(-x.size // PIECE), axis) for part in whole), strict=True):
        seen = _more(seen, *piece)
    return seen


def _more(seen: Seen, x: np.ndarray, hat: np.ndarray, low: np.ndarray, high: np.ndarray) -> Seen:
    energy = seen.energy + Energy(_squares(x), _squares(x - hat))
    if not math.isfinite(energy.signal + energy.noise):
        return replace(seen, energy=energy)
    place = np.floor(x.ravel() * np.float32(math.ldexp(HALF, -seen.exponent)))
    index = np.clip(place, -HALF, HALF - 1).astype(np.int64) + HALF
    outside = (x < low * np.float32(AT_BOUND)) | (x > high * np.float32(AT_BOUND))
    clipped = seen.clipped + int(np.count_nonzero(outside))
    return replace(seen, counts=seen.counts + np.bincount(index, minlength=BINS), clipped=clipped, energy=energy)


def _squares(x: np.ndarray) -> float:
    """The sum of squares in float64."""
    return float(np.sum(np.square(x, dtype=np.float64)))
