"""Evaluate a planned function with integer products: what `simulate` and `serve` both run."""

import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.core.jaxpr import Contraction, Rewriting, placed_as, rewrite, used_inputs
from qat.core.plan import Plan, SitePlan
from qat.core.product import forward, product
from qat.core.ranges import following
from qat.core.state import QuantState, activations, base_grid
from qat.core.tensors import Activation, contracted_axes
from qat.core.weights import in_operand_layout, integers, present_bound, present_range, weight_values
from qat.engines import Engine
from qat.numerics import QParams, QTensor, params_of_range, quantize
from qat.quantizers import learning, quantizers

Scope = dict[Any, Any]
Given = dict[str, Any]
"""By key: of a weight its QTensor (`q`) and, to differentiate, its float values (`hat`); of an activation its grid
(`grid`, absent where it is dynamic: then its `codes`, the smallest and largest) and, to differentiate, `base` and
`learned`."""


def weights_given(plan: Plan, leaves: list[Any], state: QuantState) -> Given:
    """Integers and fake-quantized floats of every weight, computed from the parameters once, outside of every loop."""
    given: Given = {}
    for key, x in weight_values(plan, leaves).items():
        w, clip = plan.weights[key], state.clips[key]
        still = jax.lax.stop_gradient(x)
        if w.spec.dynamic:
            low, high = present_range(w, still)
            clip, bound = replace(clip, low=low, high=high), jnp.maximum(-low, high)
        else:
            bound = present_bound(w, still)
            clip = following(clip, bound)
        quantizer, learned = quantizers.build(w.spec.quantizer), state.learned.get(key, {})
        base = base_grid(w.spec, clip, x.ndim)
        q = jax.lax.stop_gradient(integers(w, x, quantizer.grid(base, learned)))
        scale = jnp.where(jnp.isfinite(bound), q.scale, jnp.nan)  # codes cannot say NaN, so the scale does
        q = replace(q, scale=scale)
        given[key] = {
            "q": jax.lax.optimization_barrier(q),
            "hat": learning(quantizer, x, base, learned, x.size / base.scale.size),
        }
    return given


def activations_given(plan: Plan, state: QuantState) -> Given:
    """The grids of static activations and the code ranges of dynamic ones."""
    given: Given = {}
    for key, (site, a) in activations(plan).items():
        clip = state.clips[key]
        if a.spec.dynamic:
            given[key] = {"codes": (clip.qmin, clip.qmax)}
            continue
        base, learned = base_grid(a.spec, clip, len(site.contraction.scan_lengths)), state.learned.get(key, {})
        grid = jax.lax.stop_gradient(quantizers.build(a.spec.quantizer).grid(base, learned))
        given[key] = {"grid": grid, "base": base, "learned": learned}
    return given


def all_given(plan: Plan, leaves: list[Any], state: QuantState) -> Given:
    """The values that `simulate` uses for every tensor. Where a parameter that stays in float is NaN, so are the scales
    of static activations, whose codes cannot say that what they came from was.
    """
    given = weights_given(plan, leaves, state) | activations_given(plan, state)
    stored, read = {w.leaf for w in plan.weights.values()}, used_inputs(plan.jaxpr)[1]
    others = [x for i, x in enumerate(leaves) if i not in stored and read[i]]
    floats = [x for x in others if jnp.issubdtype(jax.typeof(x).dtype, jnp.floating)]
    flags = [jnp.isnan(jnp.max(jax.lax.stop_gradient(x), initial=0)) for x in floats]  # faster than to ask each
    return {key: _poisoned(g, jnp.stack(flags).any()) if flags and "grid" in g else g for key, g in given.items()}


def _poisoned(given: Any, bad: Array) -> Any:
    grid = given["grid"]
    return {**given, "grid": replace(grid, scale=jnp.where(bad, jnp.nan, grid.scale))}


def dynamic_grid(c: Contraction, side: int, a: Activation, x: Array, codes: tuple[Array, Array]) -> QParams:
    """The grid of the very values of `x`: one scale, or one for each row that is contracted."""
    axes = contracted_axes(c, side) if a.spec.per == "token" else tuple(range(x.ndim))
    x = jax.lax.stop_gradient(x)
    low, high = x.min(axes, keepdims=True, initial=0), x.max(axes, keepdims=True, initial=0)  # grids hold zero anyway
    return params_of_range(a.spec.grid, low, high, *codes)


def activation(
    c: Contraction, side: int, a: Activation, x: Array, given: Any, train: bool, check_nan: bool = False
) -> tuple[Any, QTensor]:
    """An activation's differentiable float value (None where it need not be differentiated) and its integers."""
    if check_nan and "grid" in given:
        given = _poisoned(given, jnp.isnan(jax.lax.stop_gradient(x)).any())
    grid = given["grid"] if "grid" in given else dynamic_grid(c, side, a, x, given["codes"])
    part = jax.lax.stop_gradient(QTensor(quantize(x, grid), grid.scale, grid.zero_point))
    if not train:
        return None, part
    quantizer, summed = quantizers.build(a.spec.quantizer), math.prod(x.shape[i] for i in contracted_axes(c, side))
    return learning(quantizer, x, given.get("base", grid), given.get("learned", {}), summed), part


def in_scope(a: Activation, x: Array) -> Hashable:
    """The key of a quantized activation in a scope: its readers share one grid, but codes only in one shape."""
    return a.key, x.shape


def site_result(
    site: SitePlan,
    plan: Plan,
    engine: Engine,
    operands: list[Any],
    given: Given,
    train: bool,
    scope: Scope,
    check_nan: bool = False,
) -> Array:
    """The result of one site. An activation that other sites read as well is quantized once a `scope` and shape."""
    c, hats, parts, groups = site.contraction, [], [], None
    for side, (how, x) in enumerate(zip(site.operands, operands, strict=False)):
        if how is None:
            hat, part = x, x
        elif isinstance(how, Activation):
            place = in_scope(how, x)
            if place not in scope:
                scope[place] = activation(c, side, how, x, placed_as(given[how.key], x), train, check_nan)
            hat, part = scope[place]
        else:
            key, perm = how
            part = placed_as(in_operand_layout(given[key]["q"], perm), x)
            hat = placed_as(given[key]["hat"].transpose(perm), x) if train else None
            w = plan.weights[key]
            groups = next(iter(w.groups.values()), groups)
        hats.append(hat)
        parts.append(part)
    if c.op == "embedding":
        hats.append(None)
        parts.append(operands[1])
    if train:
        return product(c, engine, tuple(hats), tuple(parts), groups)
    return forward(c, engine, tuple(parts), groups)


def run(
    plan: Plan,
    engine: Engine,
    args: list[Any],
    given: Given,
    train: bool,
    observe: Callable | None = None,
    carried: dict[str, Any] | None = None,
    check_nan: bool = False,
) -> tuple[list[Any], dict[str, Any]]:
    """Outputs of the planned function with integer sites.

    `observe(site, operands, carried, given) -> (carried, given)` may look at a site's operands and replace what it is
    given. With `check_nan` the results of a site that reads NaN are NaN, where its activations' range is static too.
    """
    sites = plan.quantized

    def handler(c: Contraction, eqn: Any, operands: list[Any], given: Given, carried_here: Any, scope: Scope):
        site = sites[c.location]
        if observe is not None and carried_here is not None:
            carried_here, given = observe(site, operands, carried_here, given)
        return site_result(site, plan, engine, operands, given, train, scope, check_nan), carried_here

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, plan.slices)
    return rewrite(rewriting, plan.jaxpr, args, given, carried or {})
