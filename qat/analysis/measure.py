"""Statistics of every site, streamed over batches in one compiled step and bounded memory.

The float function runs; at each site its float operands are also quantized and multiplied as integers. So the error of
each site is measured by itself, without the errors of the sites before it.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.analysis.histogram import BINS, Noise, Tally, add_noise, clip_range, update
from qat.analysis.layers import Kind, Layer, Layers, Operand, Side
from qat.analysis.totals import Counts, Energy, empty_counts, weight_counts
from qat.core.calibrate import stream
from qat.core.convert import Structure, structure_of
from qat.core.evaluate import activation_operands, in_scope, site_result, weight_operands
from qat.core.jaxpr import Contraction, Rewriting, bind, rewrite
from qat.core.operands import ActivationOperand, Operands, WeightOperand, WeightValues
from qat.core.plan import Plan, SitePlan, make_plan
from qat.core.state import ClipRange, QuantState, activations, base_grid, check_state, specs
from qat.core.weights import weight_values
from qat.engines import engines
from qat.numerics import QParams, dequantize
from qat.transform import Quantized

SIDES: tuple[Side, Side] = ("lhs", "rhs")
Index = tuple[int, ...]
STILL = (np.float32(1), np.float32(0))  # the stretch and the shift of a range that does not learn


@dataclass(frozen=True)
class _Totals:
    """Counts by tensor and energies of results by site, each also by layer of the scans around it; and the bits of
    every tensor, with one axis for each scan."""

    tensors: dict[tuple[str, Index], Counts]
    outputs: dict[tuple[str, Index], Energy]
    bits: dict[str, np.ndarray]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _SiteTallies:
    """The tallies of one batch at a site: energies of its result, and counts of the activations that it counts."""

    output: Noise
    activations: dict[str, Tally]


def layer_statistics(q: Quantized, params: Any, state: QuantState, batches: Iterable[Any]) -> Layers:
    """Measure the effect of quantization at each site of `q` on all batches, each a tuple of inputs or the only input.

    A site in a layer scan gives one entry for each layer. Counts are exact; a batch's energies are summed in float32.
    Raises `ValueError` for no batch, a state of another function or recipe, NaN or infinity at a site.
    """
    q.check(state)
    state, incoming = state.bare, stream(batches)
    head = next(incoming)
    plan = make_plan(q.fn, q.recipe, params, head)
    check_state(plan, state)
    operands, *rest = _operands(q.program, structure_of(head), params, state)
    totals = _start(plan, params, state, operands, *rest)
    empty = jax.device_put(_empty_tallies(plan, totals))
    for inputs in itertools.chain([head], incoming):
        totals = _more(plan, totals, jax.device_get(_step(q.program, params, operands, empty, inputs)))
    return Layers(tuple(_layer(plan, site, index, totals) for site in plan.sites for index in _layers(site)))


def _layers(site: SitePlan) -> Iterator[Index]:
    """The indices of a site's layers: one empty index where no layer scan is around it."""
    return np.ndindex(*site.contraction.scan_lengths)


@partial(jax.jit, static_argnums=(0, 1))
def _operands(program: Any, like: Structure, params: Any, state: QuantState) -> tuple[Operands, dict, dict]:
    """Integers and grids by key; the float values of weights that are no parameter leaf; and for each tensor that
    learns the width of its range over the calibrated one, and how far the range has moved."""
    plan = make_plan(program.fn, program.recipe, params, like.abstract)
    leaves = jax.tree.leaves(params)
    weights = {key: WeightValues(w.quantized) for key, w in weight_operands(plan, leaves, state).items()}
    grids = {key: a.served for key, a in activation_operands(plan, state).items()}
    learned = {key: weights[key].quantized if key in weights else grids[key].grid for key in state.learned}
    about, values = specs(plan), weight_values(plan, leaves)
    bases = {key: base_grid(about[key].spec, state.clips[key], about[key].ndim) for key in state.learned}
    computed = {key: x for key, x in values.items() if plan.weights[key].leaf is None}
    return {**weights, **grids}, computed, {key: _moved(bases[key], p) for key, p in learned.items()}


def _moved(base: QParams, now: Any) -> tuple[jax.Array, jax.Array]:
    """The width of a learned grid over that of its calibrated one, and the shift of its values."""
    shift = jnp.float32(0) if base.zero_point is None else (base.zero_point - now.zero_point) * now.scale
    return now.scale / base.scale, jnp.broadcast_to(shift, now.scale.shape)


def _start(plan: Plan, params: Any, state: QuantState, operands: Operands, computed: dict, moved: dict) -> _Totals:
    """The counts of all weights, and empty counts of activations and results."""
    tensors, leaves = {}, jax.tree.leaves(params)
    clips, moved = jax.device_get((state.clips, moved))
    for key, w in plan.weights.items():
        x, values = jax.device_get((computed[key] if w.leaf is None else leaves[w.leaf], operands[key]))
        x = np.asarray(x).astype(w.dtype)
        counted = weight_counts(w, x, values.quantized, clip=clips[key], moved=moved.get(key, STILL))
        tensors |= {(key, layer): one for layer, one in counted}
    for key, (site, a) in activations(plan).items():
        low, high = _range(a, clips[key], *moved.get(key, STILL))
        for index in _layers(site):
            tensors[key, index] = empty_counts(float(low[index]), float(high[index]))
    outputs = {(s.contraction.id, index): Energy() for s in plan.quantized.values() for index in _layers(s)}
    odd = {key: about.spec.grid == "midrise" for key, about in specs(plan).items()}  # whose codes count by twos
    bits = {key: np.frexp(clip.qmax + 1)[1] - odd[key] for key, clip in clips.items()}
    return _Totals(tensors, outputs, bits)


def _range(a: ActivationOperand, clip: ClipRange, stretch: Any, shift: Any) -> tuple[np.ndarray, np.ndarray]:
    """The clip range of an activation; zeros for a dynamic one, which no call has set yet."""
    nothing = np.zeros(clip.qmin.shape, np.float32)
    low, high = (nothing, nothing) if a.spec.dynamic else clip_range(a.spec.grid, clip.low, clip.high)
    return low * stretch + shift, high * stretch + shift


def _empty_tallies(plan: Plan, totals: _Totals) -> dict[str, _SiteTallies]:
    """Empty tallies by site, over the spans and ranges of the totals."""
    carried: dict[str, _SiteTallies] = {}
    for site in plan.quantized.values():
        scan_lengths = site.contraction.scan_lengths
        zero = np.zeros(scan_lengths, np.float32)
        tallies: dict[str, Tally] = {}
        for _, a in site.own_activations:
            counted = [totals.tensors[a.key, index] for index in _layers(site)]
            exponent, low, high = (
                np.asarray([getattr(one, name) for one in counted], dtype).reshape(scan_lengths)
                for name, dtype in (("exponent", np.int32), ("low", np.float32), ("high", np.float32))
            )
            counts, clipped = np.zeros((*scan_lengths, BINS), np.uint32), np.zeros(scan_lengths, np.uint32)
            noise = Noise(zero, zero)
            tallies[a.key] = Tally(counts, exponent, clipped, noise=noise, low=low, high=high)
        carried[site.contraction.id] = _SiteTallies(Noise(zero, zero), tallies)
    return carried


@partial(jax.jit, static_argnums=0)
def _step(
    program: Any, params: Any, operands: Operands, carried: Any, inputs: tuple[Any, ...]
) -> dict[str, _SiteTallies]:
    plan = make_plan(program.fn, program.recipe, params, inputs)
    sites, engine = plan.quantized, engines.build(program.engine)

    def handler(c: Contraction, eqn: Any, arrays: list[Any], operands: Any, entry: _SiteTallies, scope: Any):
        site = sites[c.location]
        exact = bind(eqn, arrays)[0]
        quantized = site_result(site, plan, engine, arrays, operands, train=False, scope=scope)
        tallies = {}
        for side, a in site.own_activations:
            _, codes = scope[in_scope(a, arrays[side])]
            tallies[a.key] = update(entry.activations[a.key], arrays[side], dequantize(codes), a.spec)
        return exact, _SiteTallies(add_noise(entry.output, exact, quantized), tallies)

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, plan.slices)
    return rewrite(rewriting, plan.jaxpr, jax.tree.leaves((params, *inputs)), operands, carried)[1]


def _more(plan: Plan, totals: _Totals, carried: dict[str, _SiteTallies]) -> _Totals:
    """The totals with the tallies of a batch added."""
    tensors, outputs = dict(totals.tensors), dict(totals.outputs)
    for site in plan.quantized.values():
        name = site.contraction.id
        for index in _layers(site):
            outputs[name, index] += _at(index, carried[name].output)
            for _, a in site.own_activations:
                tensors[a.key, index] += _at(index, carried[name].activations[a.key])
    return replace(totals, tensors=tensors, outputs=outputs)


def _at(index: Index, tree: Any) -> Any:
    """The layer `index` of arrays with leading axes for layer scans."""
    return jax.tree.map(lambda x: x[index], tree)


def _layer(plan: Plan, site: SitePlan, index: Index, totals: _Totals) -> Layer:
    """The statistics of a site, or of its layer `index`."""
    c, operands = site.contraction, []
    for side, operand in zip(SIDES, site.operands, strict=False):
        if isinstance(operand, ActivationOperand):
            operands.append(_operand(operand.key, side, "activation", operand.spec.grid, index, totals))
        elif isinstance(operand, WeightOperand):
            w = plan.weights[operand.key]
            own = tuple(index[c.scans.index(scan)] for scan in w.slices if scan in c.scans)
            operands.append(_operand(w.key, side, "weight", w.spec.grid, own, totals))
    number = f"[{','.join(map(str, index))}]" if index else ""
    rule = site.rule.pattern if site.rule and not site.reason else None
    output = None if site.reason else totals.outputs[c.id, index].checked(c.id).sqnr_db
    return Layer(
        id=c.id + number,
        path=c.path + number,
        op=c.op,
        rule=rule,
        reason=site.reason,
        operands=tuple(operands),
        output_sqnr_db=output,
    )


def _operand(key: str, side: Side, kind: Kind, grid: str, index: Index, totals: _Totals) -> Operand:
    counted = totals.tensors[key, index]
    sqnr_db, bits = counted.energy.checked(key).sqnr_db, int(totals.bits[key][index])
    return Operand(
        key=key,
        side=side,
        kind=kind,
        bits=bits,
        grid=grid,
        low=counted.low,
        high=counted.high,
        clipped=counted.clipped_fraction,
        sqnr_db=sqnr_db,
        histogram=counted.histogram,
    )


def output_error(q: Quantized, params: Any, state: QuantState, batches: Iterable[Any]) -> float | None:
    """Energy of the float function's outputs on all batches over the energy of the quantized function's error, in dB.

    Counts the finite numbers of all outputs of floating type together. None where the error is zero or there is no such
    number.
    """
    q.check(state)
    total = Energy()
    for inputs in stream(batches):
        total += _errors(q.program, params, state.bare, inputs)
    return total.sqnr_db


@partial(jax.jit, static_argnums=0)
def _errors(program: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> Noise:
    exact, total = program.fn(params, *inputs), Noise(jnp.zeros(()), jnp.zeros(()))
    simulated = program.simulate(params, state, *inputs)
    for x, y in zip(jax.tree.leaves(exact), jax.tree.leaves(simulated), strict=True):
        if jnp.issubdtype(x.dtype, jnp.floating):
            counts = jnp.isfinite(x)
            total = add_noise(total, jnp.where(counts, x, 0), jnp.where(counts, y, 0))
    return total
