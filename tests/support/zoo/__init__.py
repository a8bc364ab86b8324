"""Models as third parties write them, by name: what the library must handle without their knowing of it.

case = ZOO["bert"]()
outputs = case.fn(case.params, *case.inputs(2, 8, 0))
"""

import functools
from collections.abc import Callable

from . import (
    attention_variants,
    control_flow,
    derivatives,
    linen_convnets,
    linen_decoders,
    linen_dense_prediction,
    linen_depthwise,
    linen_encoders,
    linen_text,
    mixed,
    nnx_models,
    plain,
    recurrent,
    transformed,
    two_towers,
)
from .case import Case

__all__ = ["ZOO", "Case"]

_MODULES = (
    linen_convnets,
    linen_depthwise,
    linen_dense_prediction,
    linen_text,
    linen_encoders,
    linen_decoders,
    attention_variants,
    recurrent,
    control_flow,
    two_towers,
    plain,
    derivatives,
    transformed,
    mixed,
    nnx_models,
)

ZOO: dict[str, Callable[[], Case]] = {f.__name__: functools.cache(f) for module in _MODULES for f in module.CASES}
