"""Calibration: ranges of activations, streamed over batches in one compiled step and bounded memory."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.core.arguments import refuse_constants
from qat.core.convert import Structure, structure_of
from qat.core.evaluate import all_operands, run
from qat.core.jaxpr import Contraction, Rewriting, bind, laid_out_by_xla, rewrite
from qat.core.operands import ActivationGrid, Operands
from qat.core.plan import Plan, SitePlan, make_plan
from qat.core.ranges import usable
from qat.core.state import (
    ClipRange,
    Observations,
    QuantState,
    activations,
    base_grid,
    check_state,
    make_clip,
    specs,
    start_learning,
)
from qat.core.weights import map_layers, nameless, observed_weight, reduced_shape, weight_values
from qat.engines import engines
from qat.numerics import ANY_BITS, WITH_ZERO_POINT, steps_between
from qat.observers import observers
from qat.quantizers import quantizers
from qat.recipes.recipe import TensorSpec

Carried = dict[str, dict[str, Observations]]
"""The observations of each activation that a site observes, by the site's id and the activation's key."""

CHECK_EVERY = 16  # batches between two checks for NaN, each of which waits for the device


def empty_observations(plan: Plan) -> Carried:
    """Empty observer states, with a leading axis for each layer scan and the dtypes that the step returns."""
    carried: Carried = {}
    for site in plan.sites:
        scan_lengths = site.contraction.scan_lengths
        for _, a in site.own_activations:
            observer = None if a.spec.dynamic else observers.build(a.spec.observer).init(1)
            one = Observations(jnp.array(True), jnp.array(False), observer)
            entry = jax.tree.map(lambda x, s=scan_lengths: jnp.full((*s, *x.shape), x, x.dtype), one)
            carried.setdefault(site.contraction.id, {})[a.key] = entry
    return carried


def observe_operand(spec: TensorSpec, entry: Observations, x: Array) -> Observations:
    """Update an operand's observations with the values of one call; an array without elements changes nothing."""
    if x.size == 0:
        return entry
    return laid_out_by_xla(partial(_observed, spec), entry, x)


def _observed(spec: TensorSpec, entry: Observations, x: Array) -> Observations:
    values = jax.lax.stop_gradient(x).astype(jnp.float32).reshape(1, -1)
    finite = jnp.isfinite(values.min(-1)) & jnp.isfinite(values.max(-1))  # most observers compute the extremes anyway
    values = jnp.maximum(values, 0.0) if spec.grid == "unsigned" else values  # as the grid represents them
    observer = None if spec.dynamic else observers.build(spec.observer).update(entry.observer, values)
    return Observations(entry.finite & finite[0], jnp.array(True), observer)


def clip_of(spec: TensorSpec, entry: Observations, clip: ClipRange) -> ClipRange:
    """The clip range of an operand without scanned axes, from its observations."""
    steps = steps_between(spec.grid, clip.qmin, clip.qmax)
    low, high = observers.build(spec.observer).range(entry.observer, steps, spec.grid not in WITH_ZERO_POINT)
    return replace(clip, low=low[0], high=high[0])


@partial(jax.jit, static_argnums=0)
def _step(program: Any, params: Any, carried: Carried, inputs: tuple[Any, ...]) -> Carried:
    plan = make_plan(program.fn, program.recipe, params, inputs)
    sites = plan.quantized

    def handler(c: Contraction, eqn: Any, arrays: list[Any], operands: Any, entry: Any, scope: Any):
        del operands, scope
        new = entry and {
            a.key: observe_operand(a.spec, entry[a.key], arrays[i]) for i, a in sites[c.location].own_activations
        }
        return bind(eqn, arrays)[0], new

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, {})
    return rewrite(rewriting, plan.jaxpr, jax.tree.leaves((params, *inputs)), {}, carried)[1]


@partial(jax.jit, static_argnums=(0, 1))
def _computed_weights(program: Any, like: Structure, params: Any) -> dict[str, Array]:
    plan = make_plan(program.fn, program.recipe, params, like.abstract)
    values = weight_values(plan, jax.tree.leaves(params))
    return {key: values[key] for key, w in plan.weights.items() if w.leaf is None}


_observed_weight = jax.jit(observed_weight, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 1))
def _weight_range(observer: str, grid: str, state: Any, clip: ClipRange) -> tuple[Array, Array, Array]:
    def search(state: Any, clip: ClipRange) -> tuple[Array, Array, Array]:
        steps = steps_between(grid, clip.qmin, clip.qmax).max()
        low, high = observers.build(observer).range(state, steps, grid not in WITH_ZERO_POINT)
        return low, high, jnp.isfinite(jnp.stack((low, high))).all()

    return laid_out_by_xla(search, state, clip)


def _weight_ranges(
    program: Any, plan: Plan, params: Any, like: tuple[Any, ...], clips: dict[str, ClipRange]
) -> dict[str, ClipRange]:
    """The clip ranges of all weights but dynamic ones.

    One weight after the other, in two steps: counting is compiled once for all weights of a shape, and the search, of
    which a program of all weights would hold one for each, once for all of so many channels, whatever their bits.
    """
    found, finite = {}, {}
    computed = any(w.leaf is None for w in plan.weights.values())
    values = _computed_weights(program, structure_of(like), params) if computed else {}
    leaves = jax.tree.leaves(params)
    for key, w in plan.weights.items():
        if not w.spec.dynamic:
            state = _observed_weight(nameless(w), values[key] if w.leaf is None else leaves[w.leaf])
            low, high, finite[key] = _weight_range(w.spec.observer, w.spec.grid, state, clips[key])
            shape = reduced_shape(w)
            found[key] = replace(clips[key], low=low.reshape(shape), high=high.reshape(shape))
    bad = [key for key, one in finite.items() if not bool(one)]
    if bad:
        raise ValueError(f"NaN or infinity in the parameter {bad[0]!r} ({len(bad)} in all). Was the training healthy?")
    return found


def calibrate(program: Any, exact: Any, params: Any, batches: Iterator[tuple[Any, ...]]) -> QuantState:
    """The state of every site of `exact` (the program with its bit widths) after all batches, each a tuple of inputs.

    Raises `ValueError` for NaN or infinity in a site's operand, naming the site and the batches, and for a site that no
    batch reached.
    """
    head = next(batches)
    plan = make_plan(exact.fn, exact.recipe, params, head)
    carried, done = empty_observations(plan), 0
    for number, inputs in enumerate(itertools.chain([head], batches)):
        carried = _step(program, params, carried, inputs)
        if number % CHECK_EVERY == CHECK_EVERY - 1:
            _refuse_not_finite(plan, carried, done, number)
            done = number + 1
    _refuse_not_finite(plan, carried, done, number)
    return _state(program, plan, params, head, carried)


def _entries(plan: Plan, carried: Carried) -> dict[str, Observations]:
    """The observations by key, in the order of the function's data flow."""
    return {a.key: carried[site.contraction.id][a.key] for site in plan.sites for _, a in site.own_activations}


def _refuse_not_finite(plan: Plan, carried: Carried, first: int, last: int) -> None:
    bad = [key for key, e in _entries(plan, carried).items() if not bool(jnp.all(e.finite))]
    if bad:
        more = f" and {len(bad) - 1} more behind it" if len(bad) > 1 else ""
        raise ValueError(
            f"NaN or infinity in the activation {bad[0]!r}{more}, in calibration batches {first} to {last}. "
            "Check the data and the parameters: the float model itself produces it."
        )


def _state(program: Any, plan: Plan, params: Any, like: tuple[Any, ...], carried: Carried) -> QuantState:
    entries = {key: e for key, e in _entries(plan, carried).items() if not specs(plan)[key].spec.dynamic}
    settled = {key for key, (site, _) in activations(plan).items() if site.contraction.settled}
    unreached = [key for key, e in entries.items() if key not in settled and not bool(jnp.all(e.reached))]
    if unreached:
        raise ValueError(
            f"no calibration batch reached {', '.join(unreached[:5])} (a branch not taken, or batches without "
            "elements?): its range is unknown. Add batches that reach it; where none can, as in a scanned layer that "
            "never takes its branch, make its activations dynamic, or leave them in float by a rule."
        )
    clips = {key: make_clip(spec, scan_lengths) for key, (spec, scan_lengths, _) in specs(plan).items()}
    clips |= _weight_ranges(program, plan, params, like, clips)
    for key, entry in entries.items():
        spec, scan_lengths, _ = specs(plan)[key]
        # Bits are data, held by the clip range: specs that differ in bits alone share the compiled code.
        clip = _ranges(replace(spec, bits=ANY_BITS), len(scan_lengths), entry, clips[key])
        clips[key] = _never_run(clip, entry.reached) if key in settled else clip
    clips = usable(plan, clips)
    return QuantState(clips, start_learning(plan, clips), entries)


def _never_run(clip: ClipRange, reached: Array) -> ClipRange:
    """The clip range with a placeholder for layers whose branch no input can reach: the widest range of the other
    layers, at least [-1, 1]."""
    assert clip.low is not None and clip.high is not None
    least = jnp.min(clip.low, where=reached, initial=-1.0)
    most = jnp.max(clip.high, where=reached, initial=1.0)
    return replace(clip, low=jnp.where(reached, clip.low, least), high=jnp.where(reached, clip.high, most))


@partial(jax.jit, static_argnums=(0, 1))
def _ranges(spec: TensorSpec, depth: int, entry: Observations, clip: ClipRange) -> ClipRange:
    return map_layers(partial(clip_of, spec), depth)(entry, clip)


@partial(jax.jit, static_argnums=0)
def simulate_observing(program: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> tuple[Any, QuantState]:
    """The simulated output at ranges updated with this call's activations, and the state with the updated ranges."""
    plan = make_plan(program.fn, program.recipe, params, inputs)
    check_state(plan, state)
    leaves = jax.tree.leaves(params)
    operands = all_operands(plan, leaves, state)
    carried: dict[str, dict[str, tuple[Observations, ClipRange]]] = {}
    for site in plan.sites:  # every reader of a shared activation observes it, so that all use the same new range
        for _, a in site.activations.values():
            if not a.spec.dynamic and not quantizers.build(a.spec.quantizer).learned:
                if a.key not in state.observers:
                    raise ValueError(
                        f"`state.observers` lacks {a.key!r}. To go on observing, start from the state of `calibrate`."
                    )
                entry = state.observers[a.key], state.clips[a.key]
                carried.setdefault(site.contraction.id, {})[a.key] = entry

    def observe(site: SitePlan, arrays: list[Any], carried: dict[str, Any], operands: Operands):
        carried, operands = dict(carried), dict(operands)
        for side, a in site.activations.values():
            if a.key in carried:
                observed, clip = carried[a.key]
                observed = observe_operand(a.spec, observed, arrays[side])
                clip = clip_of(a.spec, observed, clip)
                carried[a.key] = observed, clip
                operands[a.key] = ActivationGrid(base_grid(a.spec, clip, 0))
        return carried, operands

    args = [*leaves, *jax.tree.leaves(inputs)]
    engine = engines.build(program.engine)
    out, carried = run(
        plan, engine, args, operands, train=True, observe=observe, carried=carried, check_nan=program.check_nan
    )
    fresh = {key: e for entry in carried.values() for key, e in entry.items()}
    clips = {**state.clips, **{key: clip for key, (_, clip) in fresh.items()}}
    observed = {**state.observers, **{key: one for key, (one, _) in fresh.items()}}
    updated = replace(state, clips=clips, observers=observed)
    return jax.tree.unflatten(plan.out_tree, out), jax.lax.stop_gradient(updated)


def stream(batches: Iterable[Any], *more: Any) -> Iterator[tuple[Any, ...]]:
    """Each batch as a tuple of inputs, with `more` appended.

    Raises `ValueError` for a value that is no iterable of batches, for no batch at all, for text, and for a batch whose
    tree, dtypes or ranks differ from the first one's.
    """
    if hasattr(batches, "dtype") or isinstance(batches, str | dict) or not isinstance(batches, Iterable):
        raise ValueError(
            f"`batches` must be an iterable of batches, got one {type(batches).__name__}. "
            "For a single batch write [batch]."
        )
    first = None
    for number, batch in enumerate(batches):
        inputs = batch if isinstance(batch, tuple) else (batch,)
        refuse_constants(inputs)
        leaves, tree = jax.tree.flatten(inputs)
        form = (tree, [(jax.typeof(x).dtype, len(jax.typeof(x).shape)) for x in leaves])
        first = first or form
        if form != first:
            raise ValueError(
                f"`batches`: batch {number} has another structure than the first: expected {first}, got {form}. "
                "Batch sizes may differ, nothing else."
            )
        yield *inputs, *more
    if first is None:
        raise ValueError("`batches` is empty: give at least one batch, a tuple of the function's inputs.")
