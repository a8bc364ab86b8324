"""Ranges calibrated anew after a method moved what the parameters hold."""

from dataclasses import replace
from typing import Any

from qat.core.plan import make_plan
from qat.core.state import QuantState
from qat.ptq.method import Batches
from qat.transform import Quantized


def activation_ranges_anew(q: Quantized, params: Any, state: QuantState, batches: Batches) -> QuantState:
    """The state with ranges of activations calibrated on these parameters; weights keep theirs, and so the grid points
    that a method chose for them."""
    fresh = q.calibrate(params, batches)
    weights = make_plan(q.fn, q.recipe, params, batches[0]).weights
    clips = {key: (state if key in weights else fresh).clips[key] for key in state.clips}
    learned = {key: (state if key in weights else fresh).learned[key] for key in state.learned}
    return replace(state, clips=clips, learned=learned, observers=fresh.observers)
