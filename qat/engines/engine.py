"""The interface of an engine: exact integer products of int8 codes."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from jaxtyping import Array, Int8, Int32

from qat.registry import Registry

DotDimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class Engine:
    """`dot(lhs, rhs, dimension_numbers)` and `conv(lhs, rhs, **parameters of conv_general_dilated)` take int8 codes and
    return the int32 sums. Engines differ in speed only: an integer sum has one value."""

    dot: Callable[[Int8[Array, "..."], Int8[Array, "..."], DotDimensions], Int32[Array, "..."]]
    conv: Callable[..., Int32[Array, "..."]]


EXACT_FLOAT32 = 2**24  # integers up to this one are exact in float32
LARGEST_PRODUCT = 128 * 128  # of two int8 codes


def exact_in_float32(products: int) -> bool:
    """Whether the sum of this many products of codes is exact in float32, in any order."""
    return products * LARGEST_PRODUCT <= EXACT_FLOAT32


USUAL = "aqt" if find_spec("aqt") else "integer"
"""The default engine of `simulate`: AQT where it is installed (it requires flax and orbax), else the integer engine.
Both give the same integers."""

engines: Registry[Engine] = Registry("engine")
"""Engines by name."""
register = engines.register
"""Make a function that returns an `Engine` known under its name; use as a decorator."""


def conv_parameters(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a `conv_general_dilated` equation that an integer convolution takes as well."""
    names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers", "feature_group_count")
    return {name: params[name] for name in names}
