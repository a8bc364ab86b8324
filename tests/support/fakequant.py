"""Quantization to a grid and back, written a second time in numpy: what the library's sites are held against."""

import numpy as np

ROUNDING = 2**-12  # of a step: a value at the bound counts as inside, however float32 rounds it


def fake_quant(x, spec, axes):
    """`x` rounded to the grid of its range over `axes` (float64), and where the straight-through gradient passes:
    within that range, on a grid with a zero point half a step beyond it too."""
    x = np.asarray(x, np.float32)
    if spec is None:
        return x.astype(np.float64), np.ones(x.shape, bool)
    levels = 2**spec.bits - 1
    low, high = np.minimum(x.min(axes, keepdims=True), 0), np.maximum(x.max(axes, keepdims=True), 0)
    if spec.grid == "symmetric":
        half = (levels - 1) // 2
        scale = np.maximum(-low, high) * (np.float32(1) / np.float32(half))
        least, most = np.float32(-half), np.float32(half)
    else:
        low = 0 * low if spec.grid == "unsigned" else low
        scale = (high - low) * (np.float32(1) / np.float32(levels))
        least = np.round(low / scale)
        most = least + levels
    steps = x * (1 / scale)
    beyond = ROUNDING + (0.5 if spec.grid != "symmetric" else 0)
    inside = (steps >= least - beyond) & (steps <= most + beyond)
    return np.float64(scale) * np.round(np.clip(steps, least, most)), inside


def grouped(x, spec, axis):
    """The same with a range for each `spec.group_size` values along `axis`, each other axis with ranges of its own."""
    shape = (*x.shape[:axis], -1, spec.group_size, *x.shape[axis + 1 :])
    value, inside = fake_quant(np.reshape(x, shape), spec, (axis + 1,))
    return value.reshape(x.shape), inside.reshape(x.shape)
