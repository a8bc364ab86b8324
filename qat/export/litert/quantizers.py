"""Quantizers as composites that the LiteRT converter knows, and weights on them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from qat.numerics import QTensor

COMPOSITE = "quant.fake_quant"
FOUR_BITS = 7  # the largest code
LOWEST, HIGHEST = -128, 127

type Range = tuple[float, float]


def channel_of(q: QTensor) -> int | str | None:
    """The axis along which a weight has a scale for each entry; None for a single scale."""
    long = [axis for axis, n in enumerate(np.shape(q.scale)) if n > 1]
    whole = all(np.shape(q.scale)[axis] == np.shape(q.codes)[axis] for axis in long)
    return None if not long else long[0] if len(long) == 1 and whole else "several"


def weight(q: QTensor) -> Array:
    """Values of integer weights, with a composite that gives the same integers again."""
    codes, scale = np.asarray(q.codes), np.asarray(q.scale, np.float32)
    values, axis = codes.astype(np.float32) * scale, channel_of(q)
    small = int(np.abs(codes.astype(np.int16)).max(initial=0)) <= FOUR_BITS and q.bits is not None
    narrow = FOUR_BITS if small and int(np.asarray(q.bits)) <= 4 else HIGHEST
    assert axis is None or isinstance(axis, int)
    return fake_quant(jnp.asarray(values), scale.reshape(-1), 0, (-narrow, narrow), axis=axis)


def grid_of(bounds: Range) -> tuple[float, int]:
    """Scale and zero point of the affine 8-bit grid that spans a range and zero."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = float(np.float32((high - low) / (HIGHEST - LOWEST))) or 1.0
    return scale, round(LOWEST - low / scale)


def fake_quant(x: Array, scale: Any, zero: Any, codes: tuple[int, int], axis: int | None = None) -> Array:
    """`x` on the grid of these codes, as a composite of LiteRT; without a scale the runtime finds one at each call.

    LiteRT knows codes of 8 and of 4 bits alone: narrower ones are cut in float before. Symmetric codes of 8 bits may
    reach -128 there.
    """
    scales = np.asarray(scale, np.float64).reshape(-1)
    zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape)
    four = codes == (-FOUR_BITS, FOUR_BITS) and axis is not None
    if not four and scales.size == 1 and (codes[1] < HIGHEST or codes[0] > LOWEST + 1):
        low, high = ((n - int(zeros[0])) * float(scales[0]) for n in codes)
        x = jnp.clip(x, low, high)
    settings: dict[str, Any] = {"dtype": "i4" if four else "i8", "narrow_range": four or codes[0] == -codes[1]}
    settings |= {"scale": scales, "zero_point": zeros}
    settings |= {} if axis is None else {"quantization_dimension": np.int32(axis)}

    def values(x: Array, **_: Any) -> Array:
        if not scales.size:
            return x
        shape = [-1 if i == axis else 1 for i in range(x.ndim)] if axis is not None else []
        step, offset = (jnp.asarray(n, x.dtype).reshape(shape) for n in (scales, zeros))
        return (jnp.clip(jnp.round(x / step) + offset, *codes) - offset) * step

    return jax.lax.composite(values, COMPOSITE)(x, **settings)


def product_by_rows(eqn: Any, x: Array, q: QTensor) -> Array:
    """The `dot_general` of an activation by a weight with scales along several axes, as one of a matrix."""
    (summed_x, summed_w), _ = eqn.params["dimension_numbers"]
    free_x = [i for i in range(x.ndim) if i not in summed_x]
    free_w = [i for i in range(q.codes.ndim) if i not in summed_w]
    depth = math.prod(x.shape[i] for i in summed_x)
    rows = x.transpose(*free_x, *summed_x).reshape(*(x.shape[i] for i in free_x), depth)
    shape = [q.codes.shape[i] for i in free_w]
    codes = q.codes.transpose(*summed_w, *free_w).reshape(depth, -1)
    scale = q.scale.transpose(*summed_w, *free_w).reshape(1, -1)
    matrix = weight(QTensor(codes, scale, None, bits=q.bits)).astype(x.dtype)
    out = jax.lax.dot_general(rows, matrix, (((rows.ndim - 1,), (0,)), ((), ())))
    return out.reshape(*out.shape[:-1], *shape)
