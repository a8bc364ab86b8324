"""Biases shifted by the mean error that quantization adds to each output."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.evaluate import all_operands, site_result
from qat.core.jaxpr import Contraction, Location, Rewriting, bind, rewrite
from qat.core.jaxpr.graph import KEEPING, Graph, Node, graph_of, moved_axes, spread_leaf
from qat.core.plan import Plan, make_plan
from qat.core.state import QuantState
from qat.core.statistics import examples_of
from qat.engines import engines
from qat.ptq.method import Batches, Method, Outcome, Subject, register

LINEAR = {"add", "add_any", "sub", "mul", "div"}


@register
def bias_correction(sequential: bool = True) -> Method:
    """Shift each layer's bias by the mean error of its outputs, so that quantization moves no output on average.

    For output channel c, b_c += E[y_c] - E[y'_c]: y is the float network's value behind the bias, y' the simulated
    one's, both over unlabelled batches and all positions (Nagel et al. 2019, arXiv 1906.04721, section 4.2, with means
    measured, not computed). The bias is the parameter that is added first behind the layer, also the shift of a
    normalisation in between; a layer without one is left, and said so. Ranges stay. In the `sequential` form each layer
    is corrected after those before it are; otherwise all are in one pass, each batch corrected as it passes and the
    corrections averaged. Cost: one float and one simulated pass over the batches, sequential one simulated pass a
    layer.
    """

    def run(subject: Subject, params: Any, state: QuantState, batches: Batches) -> Outcome:
        q = subject.q
        taps, left = find_taps(make_plan(q.fn, q.recipe, params, batches[0]), params)
        aim = params if subject.reference is None else subject.reference
        if sequential:
            params, largest = _one_by_one(q.program, taps, aim, params, state.bare, batches)
        else:
            shifts = _mean(partial(_shifts, q.program, taps, aim, params, state.bare), batches)
            for tap in taps:
                params = _shifted(params, tap, shifts[tap.site])
            largest = max(float(np.abs(shift).max()) for shift in shifts.values())
        return Outcome(params, state, tuple(tap.site for tap in taps), left, {"largest shift": largest})

    return Method(run, check=_check)


@dataclass(frozen=True)
class Tap:
    """The addition of a bias behind a site: where it is, the bias's leaf, and for each axis of the sum the leaf's axis,
    or None."""

    site: str
    location: Location
    leaf: int
    axes: tuple[int | None, ...]
    shape: tuple[int, ...]

    def laid_out(self, mean: Any, shape: tuple[int, ...]) -> Any:
        """A mean that kept all axes of the sum, in the shape of the leaf."""
        order = sorted((axis, i) for i, axis in enumerate(self.axes) if axis is not None)
        others = tuple(i for i, axis in enumerate(self.axes) if axis is None)
        return jnp.asarray(np.transpose(mean, (*(i for _, i in order), *others)).reshape(shape))


def find_taps(plan: Plan, params: Any) -> tuple[tuple[Tap, ...], dict[str, str]]:
    """The biases behind quantized layers, in order of evaluation, and by site why others have none."""
    graph = graph_of(plan.jaxpr, len(jax.tree.leaves(params)))
    taps, left = [], {}
    for site in plan.quantized.values():
        c = site.contraction
        if c.op == "embedding" or not any(operand.is_weight for operand in c.operands):
            continue
        node = graph.at.get(c.location)
        found = "it stands in a loop or branch" if node is None else _behind(graph, node, c.id)
        if isinstance(found, str):
            left[c.id] = found
        else:
            taps.append(found)
    return tuple(taps), left


def _behind(graph: Graph, node: Node, site: str) -> Tap | str:
    """The first addition of a parameter behind a node, or why there is none."""
    while True:
        value = node.makes[0]
        readers = graph.readers.get(value, [])
        if len(readers) != 1 or value in graph.outputs:
            return "its result is used as it is, before any bias"
        node = readers[0]
        others = [v for v in node.reads if v != value]
        if node.name in ("add", "add_any") and len(others) == 1 and others[0] in graph.known:
            bias = spread_leaf(graph, others[0])
            if bias is not None:
                # A cast of the bias or an axis of length one has no leaf axis: along it the mean is taken.
                kept = tuple(a if a is not None and graph.shapes[bias.leaf][a] > 1 else None for a in bias.axes)
                out = graph.shapes[node.makes[0]]
                shape = tuple(n if a is not None else 1 for a, n in zip(kept, out, strict=True))
                return Tap(site, node.location, leaf=bias.leaf, axes=kept, shape=shape)
        linear = node.name in LINEAR and others and all(v in graph.known for v in others)
        moving = not others and (node.name in KEEPING or moved_axes(graph, node, value) is not None)
        if not (linear or moving):
            return f"no parameter is added before `{node.name}`"


def _one_by_one(
    program: Any, taps: tuple[Tap, ...], aim: Any, params: Any, state: QuantState, batches: Batches
) -> tuple[Any, float]:
    """Parameters with each tap corrected where those before it are, and the largest shift."""
    exact, largest = _mean(partial(_float_means, program, taps, aim), batches), 0.0
    for tap in taps:
        found = _mean(partial(_simulated_means, program, taps, params, state), batches)
        shift = exact[tap.site] - found[tap.site]
        params, largest = _shifted(params, tap, shift), max(largest, float(np.abs(shift).max()))
    return params, largest


def _shifted(params: Any, tap: Tap, shift: np.ndarray) -> Any:
    """The parameters with a tap's bias moved."""
    leaves, tree = jax.tree.flatten(params)
    leaf = leaves[tap.leaf]
    leaves[tap.leaf] = (leaf + tap.laid_out(shift, leaf.shape)).astype(leaf.dtype)
    return jax.tree.unflatten(tree, leaves)


def _check(subject: Subject, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> None:
    taps, left = find_taps(make_plan(subject.q.fn, subject.q.recipe, params, inputs), params)
    if not taps:
        why = "; ".join(f"{site}: {reason}" for site, reason in list(left.items())[:3])
        raise ValueError(f"`bias_correction`: no quantized layer has a bias to shift ({why}). Leave it out.")


def _mean(of: Any, batches: Batches) -> dict[str, np.ndarray]:
    """The mean over all examples of what `of(inputs)` gives for each batch."""
    sums: dict[str, np.ndarray] = {}
    total = 0
    for inputs in batches:
        size = examples_of(inputs)
        found = jax.device_get(of(inputs))
        sums = {key: sums.get(key, 0.0) + size * x.astype(np.float64) for key, x in found.items()}
        total += size
    return {key: x / total for key, x in sums.items()}


@partial(jax.jit, static_argnums=(0, 1))
def _float_means(program: Any, taps: tuple[Tap, ...], params: Any, inputs: tuple[Any, ...]) -> Any:
    return _tapped(program, taps, params, None, inputs, None)


@partial(jax.jit, static_argnums=(0, 1))
def _simulated_means(
    program: Any, taps: tuple[Tap, ...], params: Any, state: QuantState, inputs: tuple[Any, ...]
) -> Any:
    return _tapped(program, taps, params, state, inputs, None)


@partial(jax.jit, static_argnums=(0, 1))
def _shifts(
    program: Any, taps: tuple[Tap, ...], aim: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]
) -> Any:
    """What each tap lacks to the float network's means where all taps before it are corrected."""
    exact = _tapped(program, taps, aim, None, inputs, None)
    found = _tapped(program, taps, params, state, inputs, exact)
    return {site: exact[site] - found[site] for site in exact}


def _tapped(
    program: Any,
    taps: tuple[Tap, ...],
    params: Any,
    state: QuantState | None,
    inputs: tuple[Any, ...],
    towards: dict[str, Any] | None,
) -> dict[str, Any]:
    """Means at the taps, in float where there is no state; with `towards` each is moved to that mean before what
    follows."""
    plan, leaves = make_plan(program.fn, program.recipe, params, inputs), jax.tree.leaves(params)
    sites, engine = plan.quantized if state is not None else {}, engines.build(program.engine)
    operands = all_operands(plan, leaves, state) if state is not None else {}
    at = {tap.location: tap for tap in taps}
    anyone = next(iter(plan.quantized.values())).contraction
    tapped = {
        tap.location: replace(anyone, id=tap.site, location=tap.location, scans=(), scan_lengths=()) for tap in taps
    }
    carried = {tap.site: jnp.zeros(tap.shape, jnp.float32) for tap in taps}

    def handler(c: Contraction, eqn: Any, arrays: list[Any], given: Any, entry: Any, scope: Any):
        if c.location not in at:
            return site_result(sites[c.location], plan, engine, arrays, given, train=False, scope=scope), entry
        out, tap = bind(eqn, arrays)[0], at[c.location]
        axes = tuple(i for i, axis in enumerate(tap.axes) if axis is None)
        mean = out.astype(jnp.float32).mean(axes, keepdims=True)
        if towards is not None:
            out = (out + (towards[tap.site] - mean)).astype(out.dtype)
        return out, mean

    # A site that is tapped at its own id would get the mean in the place of its state: only taps are carried for.
    contractions = {place: replace(s.contraction, id=f"site {s.contraction.id}") for place, s in sites.items()}
    rewriting = Rewriting({**contractions, **tapped}, handler, plan.slices)
    return rewrite(rewriting, plan.jaxpr, [*leaves, *jax.tree.leaves(inputs)], operands, carried)[1]
