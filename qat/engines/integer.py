"""Our own integer engine: each shape by the lowering measured fastest for it, all with the same exact sums."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.engines.engine import DotDimensions, Engine, register

EXACT_FLOAT32 = 2**24  # integers below are exact in float32
FEWEST_CHANNELS = 16  # input channels a group from which an int8 convolution is faster than a float one on a CPU


def dot(lhs: Array, rhs: Array, dimension_numbers: DotDimensions) -> Array:
    """The int8 `dot_general` with an int32 sum."""
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, preferred_element_type=jnp.int32)


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
