"""The share of a function's multiplications at each pair of bits."""

from typing import Any

import numpy as np

from qat.core.plan import SitePlan, macs, make_plan
from qat.core.sites import FLOAT, bits_of_product, shares
from qat.core.state import QuantState, check_state
from qat.transform import Quantized


def operations(q: Quantized, params: Any, state: QuantState, *inputs: Any, **keywords: Any) -> dict[str, float]:
    """The share of all multiply-accumulates of one call by the bits of weights and activations that the state has, the
    largest first: `{"4x4": 0.77, "8x8": 0.23}`.

    A scan's sites count once for each of its iterations. `4xfloat` are products of weights alone quantized, `float`
    those of sites in float; a product of two activations has the bits of both. Of layers of one scan with different
    bits the most count.
    """
    q.check(state)
    q, inputs = q.with_keywords(keywords, *inputs)
    plan = make_plan(q.fn, q.recipe, params, inputs)
    check_state(plan, state)

    def bits(site: SitePlan) -> str:
        if site.reason is not None:
            return FLOAT
        sides = zip(site.contraction.operands, site.operands, strict=False)
        return bits_of_product((o.is_weight, None if one is None else _bits(state, one.key)) for o, one in sides)

    return shares((bits(site), macs(site.contraction) * site.contraction.trip_count) for site in plan.sites)


def _bits(state: QuantState, key: str) -> int:
    """The bits of codes up to 2**(bits - 1) - 1."""
    return int(np.max(np.asarray(state.clips[key].qmax)) + 1).bit_length()
