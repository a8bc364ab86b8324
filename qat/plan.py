"""Which specs the operands of every site get, and what their weights are called: a recipe resolved on a traced function."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax

from qat.jaxpr import Contraction, Location, Origin, closes_over_tracers, contracted, find, leaf_path, trace
from qat.recipes import QuantRecipe, QuantRule, TensorSpec

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """A weight tensor as it is stored: a parameter leaf, or (leaf None) a value computed from several at one site.

    Its leading `depth` axes are those that layer scans slice off. `channels` are the axes with a scale for each index,
    `summed` those that its sites contract, `group` the axis whose products share scales in groups. `totals` says whether a
    product needs the sums of its codes, as an affine activation's does.
    """

    key: str
    spec: TensorSpec
    shape: tuple[int, ...]
    dtype: Any
    leaf: int | None
    depth: int
    channels: Axes
    summed: Axes
    group: int | None
    slices: tuple[Location, ...]
    place: tuple[Location, int]
    totals: bool


@dataclass(frozen=True)
class Activation:
    """An activation operand of a site: its name in the state and its spec."""

    key: str
    spec: TensorSpec


@dataclass(frozen=True)
class SitePlan:
    """A contraction with the rule that it got. `operands` holds for each side what it is quantized as, or None in float;
    for a weight the stored tensor's key and the permutation from its layout to the operand's. `reason` says why the
    site stays in float, else None."""

    contraction: Contraction
    rule: QuantRule | None
    reason: str | None
    operands: tuple[Activation | tuple[str, Axes] | None, ...] = (None, None)


@dataclass(frozen=True)
class Plan:
    """A traced function (`jaxpr`, the structure of its result) with its sites and stored weights by key."""

    jaxpr: Any
    out_tree: Any
    leaves: tuple[str, ...]
    sites: tuple[SitePlan, ...]
    weights: dict[str, Weight]

    @property
    def quantized(self) -> dict[Location, SitePlan]:
        """The sites that are rewritten, by location."""
        return {s.contraction.location: s for s in self.sites if s.reason is None}

    @property
    def slices(self) -> dict[str, tuple[Location, ...]]:
        """By key of a weight or an activation, the layer scans that slice it."""
        acts = {a.key: s.contraction.scans for s in self.sites for a in s.operands if isinstance(a, Activation)}
        return {**acts, **{key: w.slices for key, w in self.weights.items()}}


class _HoldsTracers(Exception):
    """Carries a plan that must not outlive the transformation whose values the function closes over."""


@lru_cache(maxsize=64)
def _cached(fn: Callable[..., Any], recipe: QuantRecipe, tree: Any, avals: tuple[Any, ...]) -> Plan:
    plan = _make(fn, recipe, tree, avals)
    if closes_over_tracers(plan.jaxpr):
        raise _HoldsTracers(plan)
    return plan


def make_plan(fn: Callable[..., Any], recipe: QuantRecipe, params: Any, inputs: tuple[Any, ...]) -> Plan:
    """The plan of `fn(params, *inputs)`; only shapes and dtypes of the arguments count.

    Raises `ValueError` for a rule that no site gets, or where no site is quantized at all.
    """
    leaves, tree = jax.tree.flatten((params, *inputs))
    avals = tuple(abstract(leaf) for leaf in leaves)
    try:
        return _cached(fn, recipe, tree, avals)
    except _HoldsTracers as uncached:
        return uncached.args[0]


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, a number or what already is abstract."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return leaf
    aval = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))


def _make(fn: Callable[..., Any], recipe: QuantRecipe, tree: Any, avals: tuple[Any, ...]) -> Plan:
    params, *inputs = jax.tree.unflatten(tree, avals)
    jaxpr, out_tree = trace(fn, (params, *inputs))
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    contractions = find(jaxpr, leaves)
    recipe.check_used([(c.path, c.op) for c in contractions])
    weights: dict[str, Weight] = {}
    sites = tuple(_site(recipe, c, weights, leaves) for c in contractions)
    if all(s.reason for s in sites):
        reasons = sorted({f"{s.contraction.id}: {s.reason}" for s in sites})[:5]
        raise ValueError(f"recipe {recipe.name!r} quantizes nothing: {'; '.join(reasons) or 'the function has no site'}.")
    return Plan(jaxpr, out_tree, tuple(leaf_path(p) for p, _ in leaves), sites, weights)


def _site(recipe: QuantRecipe, c: Contraction, weights: dict[str, Weight], leaves: list[Any]) -> SitePlan:
    rule = recipe.rule_for(c.path, c.op, first=c.first, last=c.last)
    reason = _reason(c, rule)
    if reason or rule is None:
        return SitePlan(c, rule, reason or "no rule matches")
    operands = []
    for side, operand in enumerate(c.operands[:1] if c.op == "embedding" else c.operands):
        spec = rule.weights if operand.is_weight else rule.activations
        if spec is None:
            operands.append(None)
        elif operand.is_weight:
            operands.append(_weight(c, side, rule, weights, leaves))
        else:
            operands.append(Activation(f"{c.id}/{('lhs', 'rhs')[side]}", spec))
    return SitePlan(c, rule, None, tuple(operands))


def _reason(c: Contraction, rule: QuantRule | None) -> str | None:
    """Why a site stays in float, or None."""
    if c.blocked:
        return c.blocked
    if rule is None:
        return "no rule matches"
    if rule.weights is None and rule.activations is None:
        return "its rule leaves it in float"
    weighted = any(o.is_weight for o in c.operands)
    if not weighted and not rule.products:
        return "a product of two activations, which its rule leaves in float (products=False)"
    if (rule.activations is None and not weighted) or (rule.weights is None and c.op == "embedding"):
        return f"its rule quantizes {'weights' if rule.activations is None else 'activations'} alone"
    if weighted and rule.weights is not None and rule.weights.per == "group":
        return _no_groups(c, rule.weights)
    return None


def _no_groups(c: Contraction, spec: TensorSpec) -> str | None:
    assert spec.group_size is not None
    if c.op != "dot_general" or len(c.params["dimension_numbers"][0][0]) != 1:
        return "per-group weights are for dot_general with one contracted axis"
    length = contracted(c.op, c.operands, c.params)
    return f"its {length} products do not divide into groups of {spec.group_size}" if length % spec.group_size else None


def contracted_axes(c: Contraction, side: int) -> Axes:
    """The axes of an operand that the contraction sums over; of an embedding, those of a row."""
    ndim = len(c.operands[side].shape)
    if c.op == "dot_general":
        return tuple(c.params["dimension_numbers"][0][side])
    if c.op == "embedding":
        rows = c.params["dimension_numbers"].collapsed_slice_dims
        return tuple(i for i in range(ndim) if i not in rows)
    numbers = c.params["dimension_numbers"]
    kept = numbers.lhs_spec[0] if side == 0 else numbers.rhs_spec[0]
    return tuple(i for i in range(ndim) if i != kept)


def _weight(c: Contraction, side: int, rule: QuantRule, weights: dict[str, Weight], leaves: list[Any]):
    """Enter a site's weight among the stored ones, or find it there; its key and its permutation to the operand's layout.

    A leaf that several sites use alike (a tied embedding, a shared layer) is stored once, at the most bits that any asks.
    """
    operand, spec = c.operands[side], rule.weights
    origin = operand.origin
    assert isinstance(origin, Origin) and spec is not None
    totals = c.op != "embedding" and rule.activations is not None and rule.activations.grid != "symmetric"
    ndim, summed = len(operand.shape), contracted_axes(c, side)
    direct = origin.perm is not None
    perm = origin.perm if origin.perm is not None else tuple(range(ndim))
    depth = len(origin.scans) if direct else len(c.scans)

    def stored(axes: Axes) -> Axes:
        return tuple(sorted(depth + perm[i] for i in axes))

    inner = tuple(i for i in range(ndim) if i not in summed) if spec.per in ("channel", "group") else ()
    channels = (*range(depth), *stored(inner))
    group = stored(summed)[0] if spec.per == "group" else None
    shape = leaves[origin.leaf][1].shape if direct else (*c.stack, *operand.shape)
    made = Weight("", spec, tuple(shape), operand.dtype, origin.leaf if direct else None, depth, channels, stored(summed),
                  group, origin.scans if direct else c.scans, (c.location, side), totals)  # fmt: skip
    base = origin.path if direct else f"{c.id}/{('lhs', 'rhs')[side]}"
    for number in range(len(weights) + 1):
        key = base if number == 0 else f"{base}~{number}"
        if key not in weights:
            weights[key] = replace(made, key=key)
            break
        if direct and _alike(weights[key], made):
            bits = max(spec.bits, weights[key].spec.bits)
            spec = replace(weights[key].spec, bits=bits)
            weights[key] = replace(weights[key], spec=spec, totals=weights[key].totals or totals)
            break
    return key, perm


def _alike(a: Weight, b: Weight) -> bool:
    specs = [replace(w.spec, bits=8, observer="minmax") for w in (a, b)]
    same = ("shape", "dtype", "leaf", "depth", "channels", "summed", "group", "slices")
    return specs[0] == specs[1] and all(getattr(a, n) == getattr(b, n) for n in same)


def macs(c: Contraction) -> int:
    """Multiply-accumulates of one execution of the site; none for a look-up."""
    return 0 if c.op == "embedding" else math.prod(c.out_shape) * contracted(c.op, c.operands, c.params)
