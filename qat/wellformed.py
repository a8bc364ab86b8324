"""What a converted model read from a file must hold, whoever wrote it: values that integers can be served with."""

from typing import Any

import numpy as np

from qat.numerics import MAX_BITS, MIN_BITS, QParams, QTensor

CODES = (-(2 ** (MAX_BITS - 1)), 2 ** (MAX_BITS - 1) - 1)


def packed_size(key: str, bits: Any, shape: Any) -> int:
    """The bytes of a weight's packed codes. Raises `ValueError` for bits or a shape that none can have."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"weight {key!r} must have {MIN_BITS} to {MAX_BITS} bits, got {bits!r}")
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"weight {key!r} must have a shape of whole numbers, got {shape!r}")
    size = 1
    for length in shape:
        size *= length
    return (size * bits + 7) // 8


def check_weight(key: str, q: QTensor, bits: int) -> None:
    """Raise `ValueError` for scales that are not positive and finite, and zero points that are no code."""
    _check_scale(f"weight {key!r}", q.scale)
    if q.zero_point is not None:
        _check_within(f"zero points of weight {key!r}", q.zero_point, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def check_grid(key: str, grid: dict[str, Any]) -> None:
    """The same for an activation; its codes must be a range within int8."""
    p = grid.get("grid")
    low, high = (p.qmin, p.qmax) if isinstance(p, QParams) else grid["codes"]
    _check_within(f"codes of {key!r}", low, *CODES)
    _check_within(f"codes of {key!r}", high, *CODES)
    if np.shape(low) != np.shape(high) or (np.asarray(low) >= np.asarray(high)).any():
        raise ValueError(f"codes of {key!r} must range from a smaller to a larger one")
    if isinstance(p, QParams):
        _check_scale(repr(key), p.scale)
        if p.zero_point is not None:
            _check_within(f"zero points of {key!r}", p.zero_point, int(np.min(low)), int(np.max(high)))


def _check_scale(name: str, scale: Any) -> None:
    values = np.asarray(scale)
    wrong = values[~(np.isfinite(values) & (values > 0))]
    if wrong.size:
        raise ValueError(f"scales of {name} must be positive and finite, got {wrong[0]}")


def _check_within(name: str, values: Any, low: int, high: int) -> None:
    found = np.asarray(values)
    wrong = found[(found < low) | (found > high)]
    if wrong.size:
        raise ValueError(f"{name} must be in [{low}, {high}], got {wrong[0]}")
