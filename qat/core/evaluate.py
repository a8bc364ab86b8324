"""Evaluate a planned function with integer products: what `simulate` and `serve` both run."""

import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from qat.core.jaxpr import Contraction, Rewriting, placed_as, rewrite, used_inputs
from qat.core.operands import ActivationGrid, ActivationOperand, Operands, WeightOperand, WeightValues
from qat.core.plan import Plan, SitePlan
from qat.core.product import forward, product
from qat.core.ranges import following
from qat.core.state import QuantState, activations, base_grid
from qat.core.tensors import contracted_axes
from qat.core.weights import in_operand_layout, integers, present_bound, present_range, weight_values
from qat.engines import Engine
from qat.numerics import QParams, QTensor, expand, params_of_range, quantize
from qat.quantizers import learning, quantizers

Scope = dict[Hashable, tuple[Any, QTensor]]
"""Float values and integers of the activations that sites of one jaxpr share, by `in_scope`."""


def weight_operands(plan: Plan, leaves: list[Any], state: QuantState) -> dict[str, WeightValues]:
    """Integers and fake-quantized floats of every weight, computed from the parameters once, outside of every loop."""
    found: dict[str, WeightValues] = {}
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
        x = x if quantizer.reshape is None else quantizer.reshape(x, expand(bound, x.shape))
        q = jax.lax.stop_gradient(integers(w, x, quantizer.grid(base, learned)))
        # Integer codes cannot represent NaN, so the scale carries it.
        q = replace(q, scale=jnp.where(jnp.isfinite(bound), q.scale, jnp.nan))
        floats = learning(quantizer, x, base, learned, x.size / base.scale.size)
        found[key] = WeightValues(jax.lax.optimization_barrier(q), floats)
    return found


def activation_operands(plan: Plan, state: QuantState) -> dict[str, ActivationGrid]:
    """The grids of static activations and the code ranges of dynamic ones."""
    found: dict[str, ActivationGrid] = {}
    for key, (site, a) in activations(plan).items():
        clip = state.clips[key]
        if a.spec.dynamic:
            found[key] = ActivationGrid(codes=(clip.qmin, clip.qmax))
            continue
        base, learned = base_grid(a.spec, clip, len(site.contraction.scan_lengths)), state.learned.get(key, {})
        grid = jax.lax.stop_gradient(quantizers.build(a.spec.quantizer).grid(base, learned))
        found[key] = ActivationGrid(grid, base=base, learned=learned)
    return found


def all_operands(plan: Plan, leaves: list[Any], state: QuantState) -> Operands:
    """The values that `simulate` uses for every tensor.

    Where a parameter that stays in float is NaN, so are the scales of static activations, whose codes cannot represent
    it.
    """
    weights, grids = weight_operands(plan, leaves, state), activation_operands(plan, state)
    stored, read = {w.leaf for w in plan.weights.values()}, used_inputs(plan.jaxpr)[1]
    others = [x for i, x in enumerate(leaves) if i not in stored and read[i]]
    floats = [x for x in others if jnp.issubdtype(jax.typeof(x).dtype, jnp.floating)]
    flags = [jnp.isnan(jnp.max(jax.lax.stop_gradient(x), initial=0)) for x in floats]  # faster than any(isnan)
    if flags:
        bad = jnp.stack(flags).any()
        grids = {key: grid.with_nan(bad) for key, grid in grids.items()}
    return {**weights, **grids}


def dynamic_grid(
    c: Contraction, side: int, a: ActivationOperand, x: Array, codes: tuple[Array, Array] | None
) -> QParams:
    """The grid that the values of `x` themselves span: one scale, or one for each row that is contracted."""
    assert codes is not None
    axes = contracted_axes(c, side) if a.spec.per == "token" else tuple(range(x.ndim))
    x = jax.lax.stop_gradient(x)
    low, high = x.min(axes, keepdims=True, initial=0), x.max(axes, keepdims=True, initial=0)  # every grid holds zero
    return params_of_range(a.spec.grid, low, high, *codes)


def activation(
    c: Contraction,
    side: int,
    a: ActivationOperand,
    x: Array,
    values: ActivationGrid,
    train: bool,
    check_nan: bool = False,
) -> tuple[Any, QTensor]:
    """An activation's differentiable float value (None in serving) and its integers."""
    if check_nan and values.grid is not None:
        values = values.with_nan(jnp.isnan(jax.lax.stop_gradient(x)).any())
    grid = dynamic_grid(c, side, a, x, values.codes) if values.grid is None else values.grid
    codes = jax.lax.stop_gradient(QTensor(quantize(x, grid), grid.scale, grid.zero_point, odd=grid.odd))
    if not train:
        return None, codes
    quantizer, summed = quantizers.build(a.spec.quantizer), math.prod(x.shape[i] for i in contracted_axes(c, side))
    return learning(quantizer, x, grid if values.base is None else values.base, values.learned, summed), codes


def in_scope(a: ActivationOperand, x: Array) -> Hashable:
    """The key of a quantized activation in a scope: its readers share one grid, and codes where the shape is equal."""
    return a.key, x.shape


def site_result(
    site: SitePlan,
    plan: Plan,
    engine: Engine,
    arrays: list[Any],
    operands: Operands,
    train: bool,
    scope: Scope,
    check_nan: bool = False,
) -> Array:
    """The result of one site on the arrays that its equation reads.

    An activation that other sites read as well is quantized once for each `scope` and shape.
    """
    c, float_operands, quantized_operands, groups = site.contraction, [], [], None
    for side, (operand, x) in enumerate(zip(site.operands, arrays, strict=False)):
        if isinstance(operand, ActivationOperand):
            place = in_scope(operand, x)
            if place not in scope:
                grid = placed_as(operands[operand.key], x)
                scope[place] = activation(c, side, operand, x, grid, train, check_nan)
            floats, quantized = scope[place]
        elif isinstance(operand, WeightOperand):
            values = operands[operand.key]
            assert isinstance(values, WeightValues)
            quantized = placed_as(in_operand_layout(values.quantized, operand.perm), x)
            floats = (
                placed_as(values.floats.transpose(operand.perm), x) if train and values.floats is not None else None
            )
            groups = next(iter(plan.weights[operand.key].groups.values()), groups)
        else:
            floats, quantized = x, x
        float_operands.append(floats)
        quantized_operands.append(quantized)
    if c.op == "embedding":
        float_operands.append(None)
        quantized_operands.append(arrays[1])
    if train:
        return product(c, engine, tuple(float_operands), tuple(quantized_operands), groups)
    return forward(c, engine, tuple(quantized_operands), groups)


def run(
    plan: Plan,
    engine: Engine,
    args: list[Any],
    operands: Operands,
    train: bool,
    observe: Callable | None = None,
    carried: dict[str, Any] | None = None,
    check_nan: bool = False,
) -> tuple[list[Any], dict[str, Any]]:
    """Outputs of the planned function with integer sites.

    `observe(site, arrays, carried, operands) -> (carried, operands)` may look at the arrays that a site reads and
    replace the values of its operands. With `check_nan` the results of a site that reads NaN are NaN, where the range
    of its activations is static too.
    """
    sites = plan.quantized

    def handler(c: Contraction, eqn: Any, arrays: list[Any], operands: Operands, carried_here: Any, scope: Scope):
        site = sites[c.location]
        if observe is not None and carried_here is not None:
            carried_here, operands = observe(site, arrays, carried_here, operands)
        return site_result(site, plan, engine, arrays, operands, train, scope, check_nan), carried_here

    rewriting = Rewriting({at: s.contraction for at, s in sites.items()}, handler, plan.slices)
    return rewrite(rewriting, plan.jaxpr, args, operands, carried or {})
