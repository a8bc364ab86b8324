"""AQT's int8 `dot_general`; the only module that imports AQT, which is at its end of life.

AQT's convolution multiplies floats and passes no gradient, so convolutions use the integer engine.
"""

import warnings
from importlib.util import find_spec
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from qat.engines import integer
from qat.engines.engine import DotDimensions, Engine, register


def dot(lhs: Array, rhs: Array, dimension_numbers: DotDimensions) -> Array:
    """AQT's dot on codes that are already integers: int8 operands, int32 sum, no scale of its own.

    AQT takes the result's dtype from float operands, which it does not compute with here: they are zeros.
    """
    from aqt.jax.v2 import aqt_dot_general, aqt_tensor

    make: Any = aqt_tensor.QTensor  # type checkers do not understand AQT's dataclasses

    def tensor(codes: Array) -> Any:
        return make(qvalue=codes, scale=[], scale_t=None, bias=[], dequant_dtype=jnp.int32)

    raw: Any = aqt_dot_general.dot_general_raw_make(None, None)
    raw.dg_accumulator_dtype = jnp.int32
    like = (jnp.broadcast_to(jnp.int32(0), lhs.shape), jnp.broadcast_to(jnp.int32(0), rhs.shape))
    with warnings.catch_warnings():
        # AQT 0.9 passes arrays where jax wants their dtype.
        warnings.filterwarnings(
            "ignore", message="Implicit conversion of an array to a dtype", category=DeprecationWarning
        )
        sums, _ = raw(*like, tensor(lhs), tensor(rhs), dimension_numbers)
    return sums


@register
def aqt() -> Engine:
    """AQT for `dot_general`, the integer engine for convolutions. Raises `ValueError` where AQT is not installed."""
    if find_spec("aqt") is None:
        raise ValueError(
            "engine 'aqt' needs the package aqtp. Install it: pip install 'jax-qat[aqt]', or choose engine 'integer': "
            "it gives the same integers."
        )
    return Engine(dot, integer.conv)
