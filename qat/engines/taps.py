"""An integer convolution as a sum of products of shifted inputs, one for each position of its window.

For platforms on which XLA has no int8 convolution with an int32 sum (GPUs). The sums are those of the convolution.
"""

import math
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int8, Int32

from qat.engines.engine import exact_in_float32

FEWEST = 16  # input and output channels from which an int8 product fills the hardware's tiles
STATIC = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers", "feature_group_count")


@partial(jax.jit, static_argnames=STATIC)  # equal convolutions are traced once
def conv(
    lhs: Int8[Array, "..."],
    rhs: Int8[Array, "..."],
    *,
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: Any,
    feature_group_count: int,
) -> Int32[Array, "..."]:
    """The sums of `conv_general_dilated` with these parameters, without a convolution."""
    numbers, groups = dimension_numbers, feature_group_count
    x = lhs.transpose(numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    around = zip(padding, lhs_dilation, strict=True)
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, d - 1) for p, d in around), (0, 0, 0)])
    w = rhs.transpose(*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
    window, channels, features = w.shape[:-2], *w.shape[-2:]
    w = w.reshape(*window, channels, groups, features // groups)
    extents = [(k - 1) * d + 1 for k, d in zip(window, rhs_dilation, strict=True)]
    spans = [_span(n, e, s) for n, e, s in zip(x.shape[1:-1], extents, window_strides, strict=True)]
    if math.prod(window) == 0 or any(isinstance(n, int) and n == 0 for n in spans):
        sums = jnp.zeros((x.shape[0], *spans, features), jnp.int32)
    else:
        places = (_shifted(x, at, spans, window_strides, rhs_dilation, groups) for at in np.ndindex(*window))
        sums = reduce(jnp.add, map(_product, places, w.reshape(-1, *w.shape[-3:])))
        sums = sums.reshape(x.shape[0], *spans, features)
    order = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return sums.transpose(np.argsort(order))


def _span(size: Any, extent: int, stride: int) -> Any:
    """The number of windows along an axis, whose length may be symbolic."""
    span = (size - extent) // stride + 1
    return max(span, 0) if isinstance(span, int) else span


def _shifted(x: Array, at: tuple[int, ...], spans: list[Any], strides: Any, dilations: Any, groups: int) -> Array:
    """The values of the padded input under one position of the window, with the channels split into groups."""
    starts = [i * d for i, d in zip(at, dilations, strict=True)]
    stops = [start + (n - 1) * s + 1 for start, n, s in zip(starts, spans, strides, strict=True)]
    channels = x.shape[-1]
    window = jax.lax.slice(x, (0, *starts, 0), (x.shape[0], *stops, channels), (1, *strides, 1))
    return window.reshape(*window.shape[:-1], groups, channels // groups)


def _product(x: Int8[Array, "... groups channels"], w: Int8[Array, "channels groups features"]) -> Array:
    """Sums over the channels of each group: elementwise for one channel, in float32 for few where that is exact."""
    channels, _, features = w.shape
    if channels == 1:
        return x.astype(jnp.int32) * w[0].astype(jnp.int32)
    if min(channels, features) < FEWEST and exact_in_float32(channels):
        floats = x.astype(jnp.float32), w.astype(jnp.float32)
        return jnp.einsum("...gc,cgf->...gf", *floats, precision=jax.lax.Precision.HIGHEST).astype(jnp.int32)
    return jnp.einsum("...gc,cgf->...gf", x, w, preferred_element_type=jnp.int32)
