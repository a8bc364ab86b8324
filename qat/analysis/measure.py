"""Statistics of every site, streamed over batches in one compiled step and bounded memory.

The float function runs; at each site its float operands are quantized and multiplied as integers beside it. So what a
site adds is measured by itself, without the errors of the sites before it.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from qat.analysis.layers import Kind, Layer, Layers, Operand, Side
from qat.analysis.seen import Energy, Seen, nothing_seen
from qat.analysis.stream import stream
from qat.analysis.tally import BINS, Noise, Tally, add_noise, take_in
from qat.analysis.weights import weight_seen
from qat.convert import Structure, structure_of
from qat.engines import engines
from qat.jaxpr import Contraction, Rewriting, bind, rewrite
from qat.numerics import QParams, dequantize
from qat.plan import Plan, SitePlan, make_plan
from qat.simulate import activations_given, site_result, weights_given
from qat.state import QuantState, activations, check_state, require_state
from qat.tensors import Activation
from qat.transform import Quantized
from qat.weights import weight_values

OUTPUT = "output"
SIDES: tuple[Side, Side] = ("lhs", "rhs")
Index = tuple[int, ...]


@dataclass(frozen=True)
class _Totals:
    """What was seen so far by tensor, and the energies of results by site, each by layer of the scans around it; and
    the bits of every tensor, with axes for its layers."""

    tensors: dict[tuple[str, Index], Seen]
    outputs: dict[tuple[str, Index], Energy]
    bits: dict[str, np.ndarray]


def layer_statistics(q: Quantized, params: Any, state: QuantState, batches: Iterable[Any]) -> Layers:
    """What quantization does to each site of `q` on all batches (each the tuple of inputs, or the one input).

    A site in a layer scan gives one entry a layer. Counts are exact; a batch's energies are summed in float32.
    Raises `ValueError` for no batch, a state of another function or recipe, NaN or infinity at a site.
    """
    require_state(state)
    state, incoming = replace(state, observers={}), stream(batches)
    head = next(incoming)
    plan = make_plan(q.fn, q.recipe, params, head)
    check_state(plan, state)
    given, computed = _given(q.program, structure_of(head), params, state)
    totals = _start(plan, params, state, given, computed)
    empty = jax.device_put(_empty_tallies(plan, totals))
    for inputs in itertools.chain([head], incoming):
        totals = _more(plan, totals, jax.device_get(_step(q.program, params, given, empty, inputs)))
    return Layers(tuple(_layer(plan, site, index, totals) for site in plan.sites for index in _layers(site)))


def _layers(site: SitePlan) -> Iterator[Index]:
    """The indices of a site's layers: one, empty, where no layer scan is around it."""
    return np.ndindex(*site.contraction.stack)


@partial(jax.jit, static_argnums=(0, 1))
def _given(program: Any, like: Structure, params: Any, state: QuantState) -> tuple[dict, dict]:
    """Integers and grids by key, and the float values of the weights that are no parameters."""
    plan = make_plan(program.fn, program.recipe, params, like.abstract)
    leaves = jax.tree.leaves(params)
    given: dict[str, Any] = {key: {"q": g["q"]} for key, g in weights_given(plan, leaves, state).items()}
    for key, g in activations_given(plan, state).items():
        given[key] = {name: g[name] for name in ("grid", "codes") if name in g}
    values = weight_values(plan, leaves)
    return given, {key: x for key, x in values.items() if plan.weights[key].leaf is None}


def _start(plan: Plan, params: Any, state: QuantState, given: dict, computed: dict[str, Array]) -> _Totals:
    """The weights as they are, and nothing seen of all else."""
    tensors, leaves = {}, jax.tree.leaves(params)
    for key, w in plan.weights.items():
        values = computed[key] if w.leaf is None else leaves[w.leaf]
        x, q, clip = jax.device_get((values, given[key]["q"], state.clips[key]))
        tensors |= {(key, layer): seen for layer, seen in weight_seen(w, np.asarray(x).astype(w.dtype), q, clip)}
    for key, (site, a) in activations(plan).items():
        grid = None if a.spec.dynamic else jax.device_get(given[key]["grid"])
        for index in _layers(site):
            tensors[key, index] = nothing_seen() if grid is None else nothing_seen(*_ends(_at(index, grid)))
    outputs = {(s.contraction.id, index): Energy() for s in plan.quantized.values() for index in _layers(s)}
    bits = {key: np.frexp(jax.device_get(clip.qmax) + 1)[1] for key, clip in state.clips.items()}
    return _Totals(tensors, outputs, bits)


def _ends(grid: QParams) -> tuple[float, float]:
    """The values of the outermost codes of a grid with one scale."""
    zero = 0 if grid.zero_point is None else grid.zero_point
    low, high = (np.float32(code - zero) * grid.scale for code in (grid.qmin, grid.qmax))
    return float(low), float(high)


def _counted(site: SitePlan) -> list[tuple[int, Activation]]:
    """The activations that are counted at this site; one that several sites share, at the first."""
    own = {a.key: (side, a) for side, a in enumerate(site.operands) if isinstance(a, Activation)}
    return [(side, a) for key, (side, a) in own.items() if key.startswith(f"{site.contraction.id}/")]


def _empty_tallies(plan: Plan, totals: _Totals) -> dict[str, dict[str, Any]]:
    """By site, tallies of nothing over the spans of the totals; a range that is not known grows."""
    kept: dict[str, dict[str, Any]] = {}
    for site in plan.quantized.values():
        stack = site.contraction.stack
        zero = np.zeros(stack, np.float32)
        entry = kept[site.contraction.id] = {OUTPUT: Noise(zero, zero)}
        for _, a in _counted(site):
            spans = [totals.tensors[a.key, index].exponent for index in _layers(site)]
            ends = zero if a.spec.dynamic else None
            counts, clipped = np.zeros((*stack, BINS), np.uint32), np.zeros(stack, np.uint32)
            entry[a.key] = Tally(
                counts, np.asarray(spans, np.int32).reshape(stack), clipped, Noise(zero, zero), ends, ends
            )
    return kept


@partial(jax.jit, static_argnums=0)
def _step(program: Any, params: Any, given: dict, kept: dict, inputs: tuple[Any, ...]) -> dict:
    plan = make_plan(program.fn, program.recipe, params, inputs)
    sites, engine = plan.quantized, engines.build(program.engine)

    def handler(c: Contraction, eqn: Any, operands: list[Any], given: Any, entry: Any, scope: dict[str, Any]):
        site = sites[c.location]
        exact = bind(eqn, operands)[0]
        quantized = site_result(site, plan, engine, operands, given, train=False, scope=scope)
        new: dict[str, Any] = {OUTPUT: add_noise(entry[OUTPUT], exact, quantized)}
        for side, a in _counted(site):
            part, known = scope[a.key][1], given[a.key]
            grid = known["grid"] if "grid" in known else QParams(part.scale, part.zero_point, *known["codes"])
            new[a.key] = take_in(entry[a.key], operands[side], dequantize(part), grid)
        return exact, new

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, plan.slices)
    return rewrite(rewriting, plan.jaxpr, jax.tree.leaves((params, *inputs)), given, kept)[1]


def _more(plan: Plan, totals: _Totals, kept: dict[str, dict[str, Any]]) -> _Totals:
    """The totals with the tallies of a batch added."""
    tensors, outputs = dict(totals.tensors), dict(totals.outputs)
    for site in plan.quantized.values():
        name = site.contraction.id
        for index in _layers(site):
            outputs[name, index] += _at(index, kept[name][OUTPUT])
            for _, a in _counted(site):
                tensors[a.key, index] += _at(index, kept[name][a.key])
    return replace(totals, tensors=tensors, outputs=outputs)


def _at(index: Index, tree: Any) -> Any:
    """The layer `index` of arrays with leading axes for layer scans."""
    return jax.tree.map(lambda x: x[index], tree)


def _layer(plan: Plan, site: SitePlan, index: Index, totals: _Totals) -> Layer:
    """The statistics of a site, or of the layer of it that `index` says."""
    c, operands = site.contraction, []
    for side, how in zip(SIDES, site.operands, strict=False):
        if isinstance(how, Activation):
            operands.append(_operand(how.key, side, "activation", how.spec.grid, index, totals))
        elif how is not None:
            w = plan.weights[how[0]]
            own = tuple(index[c.scans.index(scan)] for scan in w.slices)
            operands.append(_operand(w.key, side, "weight", w.spec.grid, own, totals))
    number = f"[{','.join(map(str, index))}]" if index else ""
    rule = site.rule.pattern if site.rule and not site.reason else None
    output = None if site.reason else totals.outputs[c.id, index].checked(c.id).sqnr_db
    return Layer(c.id + number, c.path + number, c.op, rule, site.reason, tuple(operands), output)


def _operand(key: str, side: Side, kind: Kind, grid: str, index: Index, totals: _Totals) -> Operand:
    seen = totals.tensors[key, index]
    sqnr_db, bits = seen.energy.checked(key).sqnr_db, int(totals.bits[key][index])
    return Operand(key, side, kind, bits, grid, seen.low, seen.high, seen.clipped_fraction, sqnr_db, seen.histogram)
