"""Clip ranges that cannot be used as calibration left them: of zeros alone, too wide, or far from the weight of now."""

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
    """A weight's clip range, where it is of zeros alone that of its present values, of the size `bound` at most: a
    weight that began at zero."""
    assert clip.low is not None and clip.high is not None
    zero = is_zero_range(clip.low, clip.high)
    return replace(clip, low=jnp.where(zero, -bound, clip.low), high=jnp.where(zero, bound, clip.high))


def usable(plan: Plan, clips: Mapping[str, ClipRange]) -> dict[str, ClipRange]:
    """The calibrated clip ranges, those of what learns made so that it can start from them.

    Warns of tensors that were nothing but zeros, except of weights whose range follows them. Raises `ValueError` for
    a range that no grid in float32 can hold.
    """
    made, zeros = dict(clips), {}
    for key, (spec, _, ndim) in specs(plan).items():
        if clips[key].low is None:
            continue
        if not bool((base_grid(spec, clips[key], ndim).scale <= LARGEST_SCALE).all()):
            raise ValueError(
                f"the values at {key!r} reach too far for a grid of {spec.bits} bits in float32: {_told(clips[key])}. "
                "Check the data and the parameters, or leave it in float by a rule."
            )
        w, learns = plan.weights.get(key), bool(quantizers.build(spec.quantizer).learned)
        length = math.prod(w.shape[i] for i in w.summed) if w else 1
        if learns:
            made[key] = _startable(clips[key], 1 / math.sqrt(length))
        if (learns or w is None) and _is_zero(clips[key], learns):
            zeros[key] = learns
    _warn_of_zeros(zeros)
    return made


def _told(clip: ClipRange) -> str:
    assert clip.low is not None and clip.high is not None
    return f"from {float(jnp.min(clip.low)):.3g} to {float(jnp.max(clip.high)):.3g}"


def _is_zero(clip: ClipRange, learns: bool) -> bool:
    """Whether a range is of zeros alone: all of those that learn together, or any of those that do not."""
    assert clip.low is not None and clip.high is not None
    zero = is_zero_range(clip.low, clip.high)
    return bool(zero.all() if learns else zero.any())


def _startable(clip: ClipRange, fresh: float) -> ClipRange:
    """The clip range, where it is of zeros alone as wide as the widest beside it, or as fresh weights' (`fresh`)."""
    assert clip.low is not None and clip.high is not None
    widest = jnp.max(jnp.maximum(-clip.low, clip.high))
    bound = jnp.where(is_zero_range(-widest, widest), fresh, widest)
    zero = is_zero_range(clip.low, clip.high)
    return replace(clip, low=jnp.where(zero, -bound, clip.low), high=jnp.where(zero, bound, clip.high))


def _warn_of_zeros(zeros: Mapping[str, bool]) -> None:
    """Warn of the tensors (and whether each learns its range) that calibration saw as zeros alone."""
    fixed, learned = ([key for key, learns in zeros.items() if learns == which] for which in (False, True))
    if fixed:
        _warn(
            f"calibration saw nothing but zeros at {_some(fixed)}: other values will be rounded to whole numbers. "
            "Calibrate on data that reach it, after training where a layer begins at zero, or make it dynamic."
        )
    if learned:
        _warn(
            f"calibration saw nothing but zeros at {_some(learned)}: what is learned of its range starts at a guess. "
            "Calibrate on data that reach it, or once it has trained in float."
        )


def refuse_not_finite(weights: Mapping[str, QTensor], grids: Mapping[str, ActivationGrid]) -> None:
    """Raise `ValueError` where a weight was not finite, or a learned range, which its scale then is not either."""
    scales = {key: q.scale for key, q in weights.items()}
    scales |= {key: one.grid.scale for key, one in grids.items() if one.grid is not None}
    bad = [key for key, scale in scales.items() if not _every(jnp.isfinite(scale))]
    if bad:
        kind = "weight" if bad[0] in weights else "learned range of the activation"
        raise ValueError(
            f"NaN or infinity in the {kind} {bad[0]!r} ({len(bad)} in all): there is no such integer. "
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
    """Whether all are true; taken for so where the values are not known yet, under a transformation."""
    return isinstance(flags, Tracer) or bool(jax.device_get(flags).all())


def _some(keys: list[str]) -> str:
    return ", ".join(repr(key) for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2, skip_file_prefixes=(HERE,))
