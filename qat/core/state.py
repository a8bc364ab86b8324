"""The quantization state: clip and code range of every tensor, values that quantizers learn, and observers' states.

All of it is data: other bit widths or clip ranges of the same rules run the same compiled program.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int32

from qat.core.operands import ActivationOperand
from qat.core.plan import Plan, SitePlan
from qat.core.weights import reduced_shape
from qat.numerics import QParams, broadcast_params, code_range, params_of_range
from qat.quantizers import quantizers
from qat.recipes.recipe import TensorSpec

LABEL = 64  # bytes of a label, padded with zeros


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClipRange:
    """A tensor's clip range (None where each call takes it from the values) and the codes that it maps onto."""

    low: Float[Array, "..."] | None
    high: Float[Array, "..."] | None
    _: KW_ONLY
    qmin: Int32[Array, "..."]
    qmax: Int32[Array, "..."]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Observations:
    """The observations of an activation so far, with a leading axis for each layer scan: whether all values were
    `finite`, whether any batch `reached` it, and its observer's state (None for a dynamic range).
    """

    finite: Bool[Array, "..."]
    reached: Bool[Array, "..."]
    observer: Any = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QuantState:
    """State by tensor: weights under their parameter's path, activations under `site id/lhs` or `/rhs`.

    `learned` is the trainable part (empty unless a quantizer learns): differentiate with respect to it and put it back
    with `dataclasses.replace(state, learned=...)`. `observers` holds the observers' states, to go on observing.
    `recipe` is the label of the recipe that it was calibrated for, as an array, so that another label compiles nothing
    anew; None means unknown, and fits any recipe.
    """

    clips: dict[str, ClipRange]
    learned: dict[str, dict[str, Array]] = field(default_factory=dict)
    observers: dict[str, Observations] = field(default_factory=dict)
    _: KW_ONLY
    recipe: Array | np.ndarray | None = None

    @property
    def bare(self) -> "QuantState":
        """The state without recipe and observers: states that differ in these alone run the same compiled program."""
        return replace(self, observers={}, recipe=None)


def as_tree(state: QuantState) -> dict[str, Any]:
    """Ranges, learned values and the recipe's label as dicts of arrays, to be stored; without observers' states."""
    clips = {key: {f: v for f, v in vars(clip).items() if v is not None} for key, clip in state.clips.items()}
    known = {} if state.recipe is None else {"recipe": state.recipe}
    return {"clips": clips, "learned": state.learned, **known}


def from_tree(tree: dict[str, Any]) -> QuantState:
    """The state that `as_tree` wrote."""
    clips = {
        key: ClipRange(f.get("low"), f.get("high"), qmin=f["qmin"], qmax=f["qmax"]) for key, f in tree["clips"].items()
    }
    return QuantState(clips, tree["learned"], recipe=tree.get("recipe"))


def activations(plan: Plan) -> dict[str, tuple[SitePlan, ActivationOperand]]:
    """The activations that the plan quantizes, by key, with the first site of each."""
    return {key: (s, a) for s in reversed(plan.sites) for key, (_, a) in s.activations.items()}


class TensorPlan(NamedTuple):
    """The plan of a tensor: its spec, the lengths of its leading axes for layer scans, and the number of axes of its
    scale (for an activation the scans alone).
    """

    spec: TensorSpec
    scan_lengths: tuple[int, ...]
    ndim: int


def specs(plan: Plan) -> dict[str, TensorPlan]:
    """The plan of each quantized tensor, by its key."""
    acts = {
        key: TensorPlan(a.spec, s.contraction.scan_lengths, len(s.contraction.scan_lengths))
        for key, (s, a) in activations(plan).items()
    }
    return {**acts, **{key: TensorPlan(w.spec, w.shape[: w.depth], len(w.shape)) for key, w in plan.weights.items()}}


def make_clip(
    spec: TensorSpec, scan_lengths: tuple[int, ...], low: Array | None = None, high: Array | None = None
) -> ClipRange:
    """The clip range with the spec's code range, the latter with a leading axis for each layer scan."""
    qmin, qmax = (jnp.full(scan_lengths, code, jnp.int32) for code in code_range(spec.bits, spec.grid))
    return ClipRange(low, high, qmin=qmin, qmax=qmax)


def base_grid(spec: TensorSpec, clip: ClipRange, ndim: int) -> QParams:
    """The grid of a clip range."""
    assert clip.low is not None and clip.high is not None
    bounds = broadcast_params(QParams(clip.low, None, qmin=clip.qmin, qmax=clip.qmax), ndim)
    return params_of_range(spec.grid, clip.low, clip.high, bounds.qmin, bounds.qmax)


def start_learning(plan: Plan, clips: dict[str, ClipRange]) -> dict[str, dict[str, Array]]:
    """Trainable values of every tensor whose quantizer learns, from its calibrated range."""
    learned = {}
    for key, (spec, _, ndim) in specs(plan).items():
        quantizer = quantizers.build(spec.quantizer)
        if quantizer.learned_on(spec.grid):
            learned[key] = quantizer.init(base_grid(spec, clips[key], ndim))
    return learned


def require_state(state: Any) -> None:
    """Raise `ValueError` for a value that is no `QuantState`."""
    if not isinstance(state, QuantState):
        raise ValueError(
            f"`state` must be the QuantState that `calibrate` returns, got {type(state).__name__}. "
            "Call `state = q.calibrate(params, batches)` first."
        )


def as_characters(label: str) -> np.ndarray:
    """A recipe's label as an array, whose length is the same for all labels."""
    return np.frombuffer(label.encode().ljust(LABEL, b"\0")[-LABEL:], np.uint8)


def label_of(characters: Any) -> str | None:
    """The label that an array holds; None for None and for a traced array, whose values are not known."""
    if characters is None or isinstance(characters, Tracer):
        return None
    return np.asarray(characters).astype(np.uint8).tobytes().strip(b"\0").decode(errors="replace")


def require_recipe(name: str, characters: Any, want: str) -> None:
    """Raise `ValueError` where the label of the argument `name` is known and names another recipe than `want`."""
    have = label_of(characters)
    if have is not None and have.rpartition("#")[2] != want.rpartition("#")[2]:
        raise ValueError(
            f"`{name}` was made for the recipe {have}, this function has {want}. Calibrate and convert with this "
            f"recipe; to mix the two on purpose call `q.adopt({name})`."
        )


def check_state(plan: Plan, state: QuantState) -> None:
    """Raise `ValueError` where `state` does not fit the plan, with what differs and the remedy."""
    for key, (spec, scan_lengths, _) in specs(plan).items():
        if key not in state.clips:
            near = _some(k for k in state.clips if k not in specs(plan))
            raise ValueError(
                f"`state` has no range for {key!r}; it was calibrated for other sites ({near}). "
                "Calibrate with this function, these parameters and this recipe; where the function's sites depend on "
                "the shapes of its inputs, with batches of the shapes that it is to run at."
            )
        clip = state.clips[key]
        if (clip.low is None) != spec.dynamic:
            kind = "dynamic" if spec.dynamic else "static"
            raise ValueError(f"`state` of {key!r} does not fit its {kind} range. Calibrate with this recipe.")
        if clip.qmin.shape != scan_lengths:
            raise ValueError(
                f"`state` of {key!r} is for layers {clip.qmin.shape}, the function has {scan_lengths}. "
                "Calibrate with these parameters."
            )
        want = sorted(quantizers.build(spec.quantizer).learned_on(spec.grid))
        have = sorted(state.learned.get(key, {}))
        if have != want:
            raise ValueError(
                f"`state` of {key!r} learns {have or 'nothing'}, its quantizer {spec.quantizer!r} learns "
                f"{want or 'nothing'}. Calibrate with this recipe."
            )
    for key, w in plan.weights.items():
        low = state.clips[key].low
        if low is not None and low.shape != reduced_shape(w):
            raise ValueError(
                f"`state` of {key!r} has scales of shape {low.shape}, the weight {w.shape} needs "
                f"{reduced_shape(w)}. Calibrate with these parameters and this recipe."
            )


def _some(keys: Iterable[str]) -> str:
    found = list(keys)
    return ", ".join(found[:3]) + (", ..." if len(found) > 3 else "") if found else "none besides"
