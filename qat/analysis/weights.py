"""Weights counted in numpy: programs for all their shapes would take longer to compile than numpy takes to count."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from qat.analysis.seen import HALF, Energy, Seen, nothing_seen
from qat.analysis.tally import BINS, ROUNDED
from qat.numerics import QTensor
from qat.state import Clip
from qat.tensors import Weight
from qat.weights import by_channel

PIECE = 2**22  # values counted at once


def weight_seen(w: Weight, x: Any, q: QTensor, clip: Clip) -> Iterator[tuple[tuple[int, ...], Seen]]:
    """What is seen of a stored weight, its float values `x` and its integers all in numpy: by layer of the scans that
    slice it, an empty index where none does."""
    stack = w.shape[: w.depth]

    def rows(values: Any) -> np.ndarray:
        return np.asarray(values).reshape(*stack, -1, values.shape[-1])

    x, codes, scale = rows(by_channel(w, x)), rows(by_channel(w, q.codes)), rows(q.scale.reshape(-1, 1))
    zero = np.zeros(scale.shape, np.int32) if q.zero_point is None else rows(q.zero_point.reshape(-1, 1))
    for layer in np.ndindex(*stack):
        ends = [(np.asarray(code)[layer] - zero[layer]).astype(np.float32) for code in (clip.qmin, clip.qmax)]
        yield layer, _rows_seen(x[layer], codes[layer] - zero[layer].astype(np.float32), scale[layer], *ends)


def _rows_seen(x: np.ndarray, steps: np.ndarray, scale: np.ndarray, least: np.ndarray, most: np.ndarray) -> Seen:
    """What is seen of rows with a scale each, quantized to so many steps, at least and at most so many.

    The range leaves out rows of zeros, whose scale is arbitrary.
    """
    alive = (x != 0).any(-1, keepdims=True)
    low = float(np.min(least * scale, initial=0, where=alive))
    seen = nothing_seen(low, float(np.max(most * scale, initial=0, where=alive)))
    axis = int(x.shape[0] < x.shape[1])  # along which rows or columns are cut to pieces
    pieces = -(-x.size // PIECE)
    cuts = [np.array_split(np.broadcast_to(part, x.shape), pieces, axis) for part in (x, steps, scale, least, most)]
    for one in zip(*cuts, strict=True):
        seen = _piece_added(seen, *one)
    return seen


def _piece_added(seen: Seen, x: np.ndarray, steps: np.ndarray, scale: np.ndarray, least: np.ndarray, most: np.ndarray):
    energy = Energy(_squares(x), _squares(x - steps * scale))
    if not math.isfinite(energy.signal + energy.noise):
        return replace(seen, energy=energy)
    place = np.floor(x.ravel() * np.float32(math.ldexp(HALF, -seen.exponent)))
    index = np.clip(place, -HALF, HALF - 1).astype(np.int64) + HALF
    exact = x * (np.float32(1) / scale)
    clipped = np.count_nonzero((exact < least - ROUNDED) | (exact > most + ROUNDED))
    return replace(
        seen,
        counts=seen.counts + np.bincount(index, minlength=BINS),
        clipped=seen.clipped + clipped,
        energy=seen.energy + energy,
    )


def _squares(x: np.ndarray) -> float:
    """The sum of squares in float64."""
    return float(np.sum(np.square(x, dtype=np.float64)))
