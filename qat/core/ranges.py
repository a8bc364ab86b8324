"""Calibrated clip ranges that need a check or a repair: of zeros alone, too wide, or far from the present weight."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from qat.core.operands import ActivationGrid
from qat.core.plan import Plan
from qat.core.state import ClipRange, base_grid, specs
from qat.numerics import LARGEST_SCALE, QTensor, is_zero_range
from qat.quantizers import quantizers

HERE = str(Path(__file__).parents[1])


def following(clip: ClipRange, bound: Array) -> ClipRange:
    """A weight's clip range; where calibration saw only zeros, [-bound, bound], the range of its present values: a
    weight that was initialised to zero has trained since."""
    assert clip.low is not None and clip.high is not None
    zero = is_zero_range(clip.low, clip.high)
    return replace(clip, low=jnp.where(zero, -bound, clip.low), high=jnp.where(zero, bound, clip.high))


def usable(plan: Plan, clips: Mapping[str, ClipRange]) -> dict[str, ClipRange]:
    """The calibrated clip ranges, with a range to start from where a tensor of zeros is to learn its range.

    Warns of tensors that were nothing but zeros, except weights, whose range follows their present values. Raises
    `ValueError` for a range that no grid in float32 can hold.
    """
    made, zeros = dict(clips), {}
    for key, (spec, _, ndim) in specs(plan).items():
        if clips[key].low is None:
            continue
        if not bool((base_grid(spec, clips[key], ndim).scale <= LARGEST_SCALE).all()):
            raise ValueError(
                f"the values at {key!r} are too large for a grid of {spec.bits} bits in float32: "
                f"{_as_text(clips[key])}. Check the data and the parameters, or leave it in float by a rule."
            )
        w, learns = plan.weights.get(key), bool(quantizers.build(spec.quantizer).learned)
        length = math.prod(w.shape[i] for i in w.summed) if w else 1
        if learns:
            made[key] = _startable(clips[key], 1 / math.sqrt(length))
        if (learns or w is None) and _is_zero(clips[key], learns):
            zeros[key] = learns
    _warn_of_zeros(zeros)
    return made


def _as_text(clip: ClipRange) -> str:
    assert clip.low is not None and clip.high is not None
    return f"from {float(jnp.min(clip.low)):.3g} to {float(jnp.max(clip.high)):.3g}"


def _is_zero(clip: ClipRange, learns: bool) -> bool:
    """Whether calibration saw only zeros: in all channels of a tensor that learns its range, else in any channel."""
    assert clip.low is not None and clip.high is not None
    zero = is_zero_range(clip.low, clip.high)
    return bool(zero.all() if learns else zero.any())


def _startable(clip: ClipRange, fresh: float) -> ClipRange:
    """The clip range with channels of zeros made as wide as the widest channel; as wide as `fresh`, the size of newly
    initialised weights, where all channels are zeros."""
    assert clip.low is not None and clip.high is not None
    widest = jnp.max(jnp.maximum(-clip.low, clip.high))
    bound = jnp.where(is_zero_range(-widest, widest), fresh, widest)
    zero = is_zero_range(clip.low, clip.high)
    return replace(clip, low=jnp.where(zero, -bound, clip.low), high=jnp.where(zero, bound, clip.high))


def _warn_of_zeros(zeros: Mapping[str, bool]) -> None:
    """Warn of tensors that were zeros in calibration; `zeros` says for each whether it learns its range."""
    fixed, learned = ([key for key, learns in zeros.items() if learns == which] for which in (False, True))
    if fixed:
        _warn(
            f"calibration saw nothing but zeros at {_some(fixed)}: other values will be rounded to whole numbers. "
            "Calibrate on data that reach it (a layer initialised to zero: after training), or make its range dynamic."
        )
    if learned:
        _warn(
            f"calibration saw nothing but zeros at {_some(learned)}: its learned range starts from a guess. "
            "Calibrate on data that reach it, or after it has trained in float."
        )


def refuse_not_finite(weights: Mapping[str, QTensor], grids: Mapping[str, ActivationGrid]) -> None:
    """Raise `ValueError` for a weight or a learned range that is not finite, as its scale shows."""
    scales = {key: q.scale for key, q in weights.items()}
    scales |= {key: one.grid.scale for key, one in grids.items() if one.grid is not None}
    bad = [key for key, scale in scales.items() if not _every(jnp.isfinite(scale))]
    if bad:
        kind = "weight" if bad[0] in weights else "learned range of the activation"
        raise ValueError(
            f"NaN or infinity in the {kind} {bad[0]!r} ({len(bad)} in all): no integer represents it. "
            "Was the training healthy?"
        )


def refuse_nan(leaves: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a parameter that stays in float holds NaN."""
    floats = {path: x for path, x in leaves.items() if jnp.issubdtype(jax.typeof(x).dtype, jnp.floating)}
    bad = [path for path, x in floats.items() if not _every(~jnp.isnan(x))]
    if bad:
        raise ValueError(f"NaN in the parameter {bad[0]!r} ({len(bad)} in all). Was the training healthy?")


def warn_of_stale(stale: Mapping[str, Array]) -> None:
    """Warn of the weights that lie far outside of their calibrated range."""
    found = [key for key, flag in stale.items() if not _every(~flag)]
    if found:
        _warn(
            f"most values of {_some(found)} lie far outside of their calibrated range, which is stale: they would be "
            "clipped. Calibrate with these parameters."
        )


def _every(flags: Array) -> bool:
    """Whether all flags are true; assumed under a transformation, where their values are not known yet."""
    return isinstance(flags, Tracer) or bool(jax.device_get(flags).all())


def _some(keys: list[str]) -> str:
    return ", ".join(repr(key) for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2, skip_file_prefixes=(HERE,))
