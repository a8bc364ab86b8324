"""SmoothQuant: outliers of activations moved into weights, through the norm before them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.evaluate import all_operands, site_result
from qat.core.jaxpr import Contraction, Rewriting, bind, rewrite
from qat.core.jaxpr.graph import graph_of
from qat.core.plan import Plan, make_plan
from qat.core.state import QuantState
from qat.engines import engines
from qat.ptq.method import Batches, Method, Outcome, Subject, register
from qat.ptq.rescaling import Pair, largest, pairs_of, require_equal

LEAST = 1e-5  # of the largest: a channel that is never alive is scaled no further


@register
def smooth(exponent: float | None = None, candidates: int = 9) -> Method:
    """Divide channels of activations by factors that their layers' weights take, in the norm before them.

    For channel j, s_j = max|X_j|**a / max|W_j|**(1 - a), and X diag(1/s) diag(s) W is what X W was (Xiao et al. 2023,
    arXiv 2211.10438): 1/s goes into the scale and shift of the normalisation before, s into all layers that read it.
    So it applies where a norm's result is read by layers alone, as in transformers that normalise first; elsewhere it
    is left, and said why. The `exponent` a in [0, 1] is searched by itself at each place, out of as many `candidates`
    evenly between and none at all: that of the least summed squared error of the layers there on all batches, each
    quantized beside the float network. Ranges are calibrated anew. Cost: a calibration and a float pass with each
    layer quantized beside, for each candidate.
    """
    if exponent is not None and not 0 <= exponent <= 1:
        raise ValueError(f"`exponent` must be in [0, 1], got {exponent}. None searches it.")
    if candidates < 1:
        raise ValueError(f"`candidates` must be at least 1, got {candidates}.")
    tried = [i / (candidates + 1) for i in range(1, candidates + 1)] if exponent is None else [exponent]

    def run(subject: Subject, params: Any, state: QuantState, batches: Batches) -> Outcome:
        q = subject.q
        plan = make_plan(q.fn, q.recipe, params, batches[0])
        pairs, left = _pairs(plan, params)
        sizes = _largest(q.program, tuple(pairs), params, batches)
        chosen: list[float | None] = [tried[0]] * len(pairs)
        if exponent is None:
            chosen = _search(subject, pairs, sizes, params, batches, tried)
        new = _smoothed(pairs, sizes, params, chosen)
        require_equal(q, params, new, batches[0])
        better = [pair for pair, a in zip(pairs, chosen, strict=True) if a is not None]
        worse = [pair for pair, a in zip(pairs, chosen, strict=True) if a is None]
        left |= {site: "no exponent lessens its error" for pair in worse for site in pair.readers}
        figures = {f"exponent of {p.readers[0]}": a for p, a in zip(pairs, chosen, strict=True) if a is not None}
        changed = tuple(site for pair in better for site in pair.readers)
        return Outcome(new, q.calibrate(new, batches), changed, left, figures)

    return Method(run, check=_check, rescales=True)


def _pairs(plan: Plan, params: Any) -> tuple[list[Pair], dict[str, str]]:
    """The norms whose results quantized layers alone read; by site why another has none."""
    pairs, left = pairs_of(plan, params)
    quantized = {site.contraction.id for site in plan.quantized.values()}
    good = [pair for pair in pairs if not pair.kernels and quantized & set(pair.readers)]
    layers = {site: "a layer, not a norm, stands before it" for pair in pairs if pair.kernels for site in pair.readers}
    return good, left | layers


def _check(subject: Subject, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> None:
    pairs, left = _pairs(make_plan(subject.q.fn, subject.q.recipe, params, inputs), params)
    if not pairs:
        why = "; ".join(f"{site}: {reason}" for site, reason in list(left.items())[:3])
        raise ValueError(f"`smooth`: there is no norm whose result layers alone read ({why}). Leave it out.")


def _search(
    subject: Subject, pairs: list[Pair], sizes: list[np.ndarray], params: Any, batches: Batches, tried: list[float]
) -> list[float | None]:
    """The best exponent at each place, or None where all are worse than to leave it. Places do not touch each other:
    each layer's error is that of its own operands, so that one pass tries an exponent everywhere."""
    q = subject.q
    errors = []
    for a in (None, *tried):
        new = _smoothed(pairs, sizes, params, [a] * len(pairs))
        state = q.calibrate(new, batches)
        found = [jax.device_get(_errors(q.program, new, state.bare, inputs)) for inputs in batches]
        errors.append([sum(float(one.get(site, 0.0)) for one in found for site in pair.readers) for pair in pairs])
    best = np.argmin(np.asarray(errors), axis=0)
    return [(None, *tried)[i] for i in best]


def _smoothed(pairs: list[Pair], sizes: list[np.ndarray], params: Any, exponents: Sequence[float | None]) -> Any:
    """The parameters with each place scaled by its exponent."""
    leaves = jax.tree.leaves(params)
    for pair, size, a in zip(pairs, sizes, exponents, strict=True):
        if a is None:
            continue
        weights = np.max([largest(leaves, along) for along in pair.down], axis=0)
        x, w = (np.maximum(v, LEAST * max(float(v.max()), LEAST)) for v in (size, weights))
        factor = x**a / w ** (1 - a)
        params = pair.scaled(params, 1 / factor)
    return params


def _largest(program: Any, pairs: tuple[Pair, ...], params: Any, batches: Batches) -> list[np.ndarray]:
    """The largest size of each pair's activations over all batches, by channel, in the float network."""
    found = [jax.device_get(_sizes(program, pairs, params, inputs)) for inputs in batches]
    return [np.max(np.asarray(one, np.float64), axis=0) for one in zip(*found, strict=True)]


@partial(jax.jit, static_argnums=(0, 1))
def _sizes(program: Any, pairs: tuple[Pair, ...], params: Any, inputs: tuple[Any, ...]) -> list[Any]:
    plan, leaves = make_plan(program.fn, program.recipe, params, inputs), jax.tree.leaves(params)
    graph = graph_of(plan.jaxpr, len(leaves))
    values = graph.values([*leaves, *jax.tree.leaves(inputs)], {pair.value for pair in pairs})
    return [jnp.abs(jnp.moveaxis(values[p.value], p.axis, -1)).reshape(-1, _channels(values, p)).max(0) for p in pairs]


def _channels(values: Any, pair: Pair) -> int:
    return values[pair.value].shape[pair.axis]


@partial(jax.jit, static_argnums=0)
def _errors(program: Any, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """The summed squared error of each quantized layer's result, its operands being those of the float network."""
    plan, leaves = make_plan(program.fn, program.recipe, params, inputs), jax.tree.leaves(params)
    sites, engine = plan.quantized, engines.build(program.engine)

    def handler(c: Contraction, eqn: Any, arrays: list[Any], given: Any, entry: Any, scope: Any):
        exact = bind(eqn, arrays)[0]
        found = site_result(sites[c.location], plan, engine, arrays, given, train=False, scope=scope)
        return exact, entry + jnp.sum((found - exact).astype(jnp.float32) ** 2)

    contractions = {place: site.contraction for place, site in sites.items()}
    carried = {c.id: jnp.zeros(c.scan_lengths, jnp.float32) for c in contractions.values()}
    args = [*leaves, *jax.tree.leaves(inputs)]
    rewriting, operands = Rewriting(contractions, handler, plan.slices), all_operands(plan, leaves, state)
    found = rewrite(rewriting, plan.jaxpr, args, operands, carried)[1]
    return {site: jnp.sum(error) for site, error in found.items()}
