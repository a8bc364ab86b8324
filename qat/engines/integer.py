"""Our own integer engine: each shape by the lowering measured fastest for it, all with the same exact sums."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.engines.engine import DotDimensions, Engine, register

EXACT_FLOAT32 = 2**24  # integers below are exact in float32
LARGE = 2**16  # elements of a matrix by which a product of one row is better made of two
FEWEST_CHANNELS = 16  # input channels a group from which an int8 convolution is faster than a float one on a CPU


def dot(lhs: Array, rhs: Array, dimension_numbers: DotDimensions) -> Array:
    """The int8 `dot_general` with an int32 sum. A single row by a large matrix gets a row of zeros beside it: alone,
    XLA on a CPU would make an int32 product of it, and take the matrix to int32 at every call."""
    (contracted, others), (batched, _) = dimension_numbers
    rows = math.prod(size for axis, size in enumerate(lhs.shape) if axis not in contracted)
    if batched or rows != 1 or rhs.size < LARGE:
        return jax.lax.dot_general(lhs, rhs, dimension_numbers, preferred_element_type=jnp.int32)
    two = jax.lax.pad(lhs[None], jnp.zeros((), lhs.dtype), [(0, 1, 0), *[(0, 0, 0)] * lhs.ndim])
    moved = tuple(axis + 1 for axis in contracted)
    return jax.lax.dot_general(two, rhs, ((moved, others), ((), ())), preferred_element_type=jnp.int32)[0]


def conv(lhs: Array, rhs: Array, **params: Any) -> Array:
    """The int8 convolution with an int32 sum; by float32 arithmetic on the codes where that is faster and still
    exact."""
    out_features = params["dimension_numbers"].rhs_spec[0]
    in_features = params["dimension_numbers"].rhs_spec[1]
    products = math.prod(rhs.shape) // rhs.shape[out_features]
    if rhs.shape[in_features] < FEWEST_CHANNELS and products * 128 * 128 < EXACT_FLOAT32:
        sums = jax.lax.conv_general_dilated(
            lhs.astype(jnp.float32), rhs.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST, **params
        )
        return sums.astype(jnp.int32)
    return jax.lax.conv_general_dilated(lhs, rhs, preferred_element_type=jnp.int32, **params)


@register
def integer() -> Engine:
    """XLA's int8 products."""
    return Engine(dot, conv)
