"""A quantized function as the LiteRT converter takes it: its quantizers are composites, which become integer operators,
and its constants are computed."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from qat.core.convert import Converted, served_program
from qat.core.evaluate import site_result
from qat.core.jaxpr import Location, Rewriting, bind, evaluate, layouts, rewrite
from qat.core.operands import ActivationOperand, Operands, WeightOperand, WeightValues
from qat.core.plan import Plan, SitePlan, make_plan
from qat.core.weights import in_operand_layout
from qat.engines import engines
from qat.export.litert.quantizers import (
    HIGHEST,
    LOWEST,
    Range,
    channel_of,
    fake_quant,
    grid_of,
    product_by_rows,
    weight,
)
from qat.numerics import QTensor
from qat.transform import Quantized

COMPOSITE = "composite"
BARRIER = "optimization_barrier"  # fences off a compiler that is not the one here, and keeps it from fusing


@dataclass(frozen=True)
class Result:
    """A place whose value gets a quantizer that the recipe does not have, named after the site that it ends."""

    id: str
    location: Location
    scans: tuple[Location, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Annotated:
    """A quantized function of its inputs alone, in float with a composite at every quantizer, and its `plan`.

    `places` are further results to quantize on the ranges in `ranges`, by site; those without a range stay in float.
    """

    q: Quantized
    converted: Converted
    plan: Plan
    _: KW_ONLY
    places: tuple[Result, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def __call__(self, *inputs: Any) -> Any:
        """The outputs; in JAX as close to `serve` as float sums are to integer ones."""
        return jax.tree.unflatten(self.plan.out_tree, self._run(inputs, {})[0])

    def bounds(self, *inputs: Any) -> dict[str, Float[Array, "2"]]:
        """The smallest and largest value at each of `places`, by site."""
        empty = {one.id: jnp.asarray([jnp.inf, -jnp.inf], jnp.float32) for one in self.places}
        return self._run(inputs, empty)[1]

    def _run(self, inputs: tuple[Any, ...], carried: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        leaves, like = self.converted.leaves, self.converted.structure.leaves
        # What conversion dropped is read by no equation that the results depend on.
        params = [leaves.get(path, np.zeros(x.shape, x.dtype)) for path, x in zip(self.plan.leaves, like, strict=False)]
        sites = {at: s.contraction for at, s in self.plan.quantized.items()}
        results: dict[Location, Any] = {one.location: one for one in self.places}
        rewriting = Rewriting({**results, **sites}, self._handle, {})
        return rewrite(rewriting, self.plan.jaxpr, [*params, *jax.tree.leaves(inputs)], {}, carried)

    def _handle(self, c: Any, eqn: Any, arrays: list[Any], _: Any, seen: Any, scope: dict[Any, Any]) -> Any:
        site = None if isinstance(c, Result) else self.plan.quantized[c.location]
        out = bind(eqn, arrays)[0] if site is None else self._site(site, eqn, arrays, scope)
        place = c if site is None else next((one for one in self.places if one.location == c.location), None)
        if place is None:
            return out, seen
        if seen is not None:
            seen = jnp.stack([jnp.minimum(seen[0], out.min()), jnp.maximum(seen[1], out.max())])
        found = self.ranges.get(place.id)
        return out if found is None else fake_quant(out, *grid_of(found), (LOWEST, HIGHEST)), seen

    def _site(self, site: SitePlan, eqn: Any, arrays: list[Any], scope: dict[Any, Any]) -> Array:
        if site.contraction.op == "embedding":
            return self._look_up(site, arrays)
        found = []
        for operand, x in zip(site.operands, arrays, strict=False):
            if isinstance(operand, WeightOperand):
                q = in_operand_layout(self.converted.weights[operand.key], operand.perm)
                q = replace(q, bits=self.converted.weights[operand.key].bits)
                if channel_of(q) == "several":
                    return product_by_rows(eqn, found[0], q)
                found.append(weight(q))
            elif isinstance(operand, ActivationOperand):
                place = operand.key, x.shape
                scope[place] = scope[place] if place in scope else self._activation(operand, x)
                found.append(scope[place])
            else:
                found.append(x)
        found = [x.astype(like.dtype) for x, like in zip(found, arrays, strict=True)]
        return bind(eqn, found)[0]

    def _activation(self, operand: ActivationOperand, x: Array) -> Array:
        grid = self.converted.grids[operand.key].grid
        if grid is not None and grid.odd:
            raise ValueError(
                f"LiteRT has no grid without zero, as the activation {operand.key!r} has (grid='midrise'). Give its "
                "rule another grid; weights may stay on it."
            )
        if grid is None:
            return fake_quant(x, np.zeros(0), np.zeros(0, np.int64), (LOWEST, HIGHEST))
        scale, low, high = (np.asarray(n).reshape(-1)[0] for n in (grid.scale, grid.qmin, grid.qmax))
        zero = 0 if grid.zero_point is None else np.asarray(grid.zero_point).reshape(-1)[0]
        return fake_quant(x, scale, zero, (int(low), int(high)))

    def _look_up(self, site: SitePlan, arrays: list[Any]) -> Array:
        """Rows of the integer table, which LiteRT gathers and rescales as `serve` does."""
        (operand,) = (o for o in site.operands if isinstance(o, WeightOperand))
        stored: Operands = {operand.key: WeightValues(replace(self.converted.weights[operand.key], bits=None))}
        return site_result(
            site, self.plan, engines.build(self.q.program.serving), arrays, stored, train=False, scope={}
        )


def annotated(q: Quantized, converted: Converted, *inputs: Any) -> Annotated:
    """A quantized function ready for the converter. Raises `ValueError` for what LiteRT has no form for."""
    served_program(q.program, converted, inputs)  # refuses a tree of another function, recipe or shapes
    plan = make_plan(q.program.fn, q.program.recipe, converted.structure.abstract, inputs)
    for site in plan.quantized.values():
        why = _refused(site, converted)
        if why:
            raise ValueError(f"LiteRT has no form for the site {site.contraction.id}: {why}.")
    weights, grids = jax.tree.map(np.asarray, (converted.weights, converted.grids))
    return Annotated(q, replace(converted, weights=weights, grids=grids), plan)


def _refused(site: SitePlan, converted: Converted) -> str | None:
    c = site.contraction
    if c.trip_count != 1 or c.scans:
        return "it stands in a loop, where its scales would be values. Unroll the loop, or leave the site in float"
    for operand in site.operands:
        if isinstance(operand, ActivationOperand) and operand.spec.dynamic:
            return "its activations have dynamic ranges, never compared with what is served. Give it a static range"
        if not isinstance(operand, WeightOperand) or c.op == "embedding":
            continue
        q = converted.weights[operand.key]
        if q.zero_point is not None:
            return "its weights have a zero point. Quantize them on a symmetric grid"
        if channel_of(q) == "several" and not _has_rows(site, q, operand):
            return "its weights have scales for groups or along several axes. Give them scales per channel or tensor"
    return None


def _has_rows(site: SitePlan, q: QTensor, operand: WeightOperand) -> bool:
    """Whether a weight with scales along several axes is a matrix of them, one for each row of results."""
    c, scale = site.contraction, in_operand_layout(q, operand.perm).scale
    if c.op != "dot_general" or site.operands[1] is not operand:
        return False
    (_, summed), (batch, _) = c.params["dimension_numbers"]
    shape = c.operands[1].shape
    free = [i for i in range(len(shape)) if i not in summed]
    return not batch and all(scale.shape[i] == (shape[i] if i in free else 1) for i in range(len(shape)))


def measured(one: Annotated, samples: Any, run: Callable[..., Any] = jax.jit) -> dict[str, Range]:
    """The ranges of an annotated function's places on batches of inputs.

    Raises `ValueError` for a result that is not finite.
    """
    bounds, found = run(one.bounds), {}
    for batch in samples:
        for key, (low, high) in jax.device_get(bounds(*batch)).items():
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(f"on the samples the result of {key} is not finite. Give samples as in calibration.")
            have = found.get(key, (low, high))
            found[key] = (min(float(low), have[0]), max(float(high), have[1]))
    return found


def computed(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` with all that does not depend on its inputs computed, but for what would take more space than it is made of,
    such as a bias repeated along an image: the converter fuses a bias only where it is a constant."""

    def inner(*inputs: Any) -> Any:
        jaxpr, out = jax.make_jaxpr(fn, return_shape=True)(*inputs)
        found = evaluate(jaxpr, jax.tree.leaves(inputs), _equation)
        return jax.tree.unflatten(jax.tree.structure(out), found)

    return inner


def _equation(_: int, eqn: Any, args: list[Any]) -> list[Any]:
    if eqn.primitive.name in layouts.INLINED:
        return evaluate(layouts.inlined_jaxpr(eqn), args, _equation)
    if eqn.primitive.name == BARRIER:
        return args
    constant = bool(args) and not any(isinstance(x, Tracer) for x in args)
    if not constant or eqn.primitive.name == COMPOSITE or eqn.effects or _grows(eqn):
        return bind(eqn, args)
    with jax.ensure_compile_time_eval():
        return bind(eqn, args)


def _grows(eqn: Any) -> bool:
    sizes = [getattr(v.aval, "size", 1) for v in eqn.invars]
    return any(getattr(v.aval, "size", 1) > max(sizes) for v in eqn.outvars)
