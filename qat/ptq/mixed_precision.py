"""Sensitivity of layers: the gain in loss where one layer alone has more bits."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from qat.core.plan import Plan, make_plan
from qat.core.state import QuantState, check_state
from qat.transform import Quantized

type Loss = Callable[[Any, Any], jax.Array]


@dataclass(frozen=True)
class Sensitivity:
    """A layer, by path: by how much the loss is less with this layer alone at the higher bits, and how many weights it
    has."""

    path: str
    gain: float
    weights: int


def sensitivities(
    q: Quantized,
    params: Any,
    states: tuple[QuantState, QuantState],
    batches: Sequence[tuple[tuple[Any, ...], Any]],
    loss: Loss,
) -> tuple[list[Sensitivity], float]:
    """The layers that the second state gives more bits, most gain first; and what all of them gain together.

    `states` are those of the recipe of `q` and of another that differs from it in bits and observers alone. `batches`
    are pairs of the function's inputs and what `loss(outputs, batch)` takes; the mean over them counts. As bits are
    data, all layers run one compiled program. Raises `ValueError` for a state of other tensors, and for no batch.
    """
    if not batches:
        raise ValueError("`batches` is empty: give at least one, such as those of calibration.")
    q.check(states[0])
    plan = make_plan(q.fn, q.recipe, params, batches[0][0])
    for state in states:
        check_state(plan, state)
    total = functools.partial(_mean_loss, q.program, loss, params, batches=batches)
    start, everything = (total(state.bare) for state in states)
    found = []
    for path, keys in _tensors(plan).items():
        more = [key for key in keys if _codes(states[1], key) > _codes(states[0], key)]
        if more:
            gain = start - total(_mixed(*states, set(more)))
            weights = sum(math.prod(plan.weights[key].shape) for key in set(keys) & plan.weights.keys())
            found.append(Sensitivity(path, gain, weights))
    return sorted(found, key=lambda one: -one.gain), start - everything


def raise_layers(
    q: Quantized, params: Any, inputs: tuple[Any, ...], states: tuple[QuantState, QuantState], paths: Iterable[str]
) -> QuantState:
    """The first state, with the bits and ranges of the second for the layers of these paths; it is of no recipe until
    one adopts it."""
    tensors = _tensors(make_plan(q.fn, q.recipe, params, inputs))
    return _mixed(*states, {key for path in paths for key in tensors[path]})


def most_sensitive(found: Sequence[Sensitivity], total: float, share: float, least: float = 0.02) -> list[str]:
    """Paths of the layers to give more bits: in the order of their gain, those that gain at least `least` of what all
    layers gain together (`total`), as many as have `share` of all their weights; one too large is passed over."""
    room, chosen = share * sum(one.weights for one in found), []
    for one in sorted(found, key=lambda one: -one.gain):
        if one.gain > max(least * total, 0.0) and one.weights <= room:
            chosen.append(one.path)
            room -= one.weights
    return chosen


def _tensors(plan: Plan) -> dict[str, list[str]]:
    """The keys of the tensors that a layer's sites quantize, by the layer's path."""
    found: dict[str, list[str]] = {}
    for site in plan.quantized.values():
        found.setdefault(site.contraction.path, []).extend(site.keys)
    return found


def _codes(state: QuantState, key: str) -> int:
    return int(np.max(np.asarray(state.clips[key].qmax)) - np.min(np.asarray(state.clips[key].qmin)))


def _mean_loss(program: Any, loss: Loss, params: Any, state: QuantState, *, batches: Sequence[Any]) -> float:
    return float(np.mean([_loss(program, loss, params, state, inputs, batch) for inputs, batch in batches]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _loss(program: Any, loss: Loss, params: Any, state: QuantState, inputs: tuple[Any, ...], batch: Any) -> jax.Array:
    return loss(program.simulate(params, state, *inputs), batch)


def _mixed(low: QuantState, high: QuantState, keys: set[str]) -> QuantState:
    """`low` with what `high` has for these tensors; without what observers saw."""
    clips = {key: (high if key in keys else low).clips[key] for key in low.clips}
    return QuantState(clips, {key: (high if key in keys else low).learned[key] for key in low.learned})
