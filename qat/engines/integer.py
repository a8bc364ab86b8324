"""Integer products in XLA: the lowering that was measured fastest for each shape, all with the same exact sums."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.engines import taps
from qat.engines.engine import DotDimensions, Engine, exact_in_float32, register

LARGE = 2**16  # elements of a matrix from which the product with one row is faster with two rows
FEWEST_CHANNELS = 16  # input channels of a group from which an int8 convolution is faster than a float one on a CPU


def dot(lhs: Array, rhs: Array, dimension_numbers: DotDimensions) -> Array:
    """The int8 `dot_general` with an int32 sum."""
    (contracted, _), (batched, _) = dimension_numbers
    rows = math.prod(size for axis, size in enumerate(lhs.shape) if axis not in contracted)
    plain = partial(_dot, dimension_numbers=dimension_numbers)
    large = isinstance(rhs.size, int) and rhs.size >= LARGE  # a symbolic size cannot be compared
    if batched or rows != 1 or not large:
        return plain(lhs, rhs)
    two = partial(_dot_of_two_rows, dimension_numbers=dimension_numbers)
    return jax.lax.platform_dependent(lhs, rhs, cpu=two, default=plain)


def _dot(lhs: Array, rhs: Array, dimension_numbers: DotDimensions) -> Array:
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, preferred_element_type=jnp.int32)


def _dot_of_two_rows(lhs: Array, rhs: Array, dimension_numbers: DotDimensions) -> Array:
    """The product of a single row and a large matrix, with a row of zeros added: for one row XLA on a CPU would convert
    the matrix to int32 at every call."""
    (contracted, others), _ = dimension_numbers
    two = jax.lax.pad(lhs[None], jnp.zeros((), lhs.dtype), [(0, 1, 0), *[(0, 0, 0)] * lhs.ndim])
    moved = tuple(axis + 1 for axis in contracted)
    return _dot(two, rhs, ((moved, others), ((), ())))[0]


def conv(lhs: Array, rhs: Array, **params: Any) -> Array:
    """The int8 convolution with an int32 sum, lowered for the platform that runs it. A program exported for several
    platforms holds the lowering of each."""
    direct, on_cpu, by_taps = (partial(f, **params) for f in (_conv, _conv_on_cpu, taps.conv))
    return jax.lax.platform_dependent(lhs, rhs, cpu=on_cpu, tpu=direct, default=by_taps)


def _conv(lhs: Array, rhs: Array, **params: Any) -> Array:
    return jax.lax.conv_general_dilated(lhs, rhs, preferred_element_type=jnp.int32, **params)


def _conv_on_cpu(lhs: Array, rhs: Array, **params: Any) -> Array:
    """Convolve codes in float32 arithmetic where that is faster and still exact."""
    numbers = params["dimension_numbers"]
    products = math.prod(rhs.shape) // rhs.shape[numbers.rhs_spec[0]]
    if rhs.shape[numbers.rhs_spec[1]] >= FEWEST_CHANNELS or not exact_in_float32(products):
        return _conv(lhs, rhs, **params)
    floats = lhs.astype(jnp.float32), rhs.astype(jnp.float32)
    sums = jax.lax.conv_general_dilated(*floats, precision=jax.lax.Precision.HIGHEST, **params)
    return sums.astype(jnp.int32)


@register
def integer() -> Engine:
    """Int8 products of XLA with int32 sums."""
    return Engine(dot, conv)
