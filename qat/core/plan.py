"""A recipe resolved on a traced function: the spec of each site's operands, and the key of each weight."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import lru_cache
from typing import Any

import jax

from qat.core.arguments import described
from qat.core.jaxpr import (
    Contraction,
    Joined,
    Location,
    by_parts,
    closes_over_tracers,
    contracted,
    exceeds,
    find,
    joined,
    leaf_path,
    placed,
    trace,
)
from qat.core.operands import ActivationOperand, SiteOperand
from qat.core.tensors import Tensors, Weight, contracted_axes, share_activation, store_weight
from qat.numerics import WITH_ZERO_POINT
from qat.recipes.recipe import QuantRecipe, QuantRule, TensorSpec
from qat.registry import forgotten_on_change

LARGEST_SUM = 2**31 - 1
SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion")


@dataclass(frozen=True)
class SitePlan:
    """A contraction with the rule that it got. `operands` holds the weight or activation that each side is quantized
    as, None for a side in float. `reason` says why the site stays in float, else None. `joins` is the number of arrays
    that an activation of one range joins, else 0."""

    contraction: Contraction
    rule: QuantRule | None
    reason: str | None
    _: KW_ONLY
    operands: tuple[SiteOperand | None, ...] = (None, None)
    joins: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the tensors that the site quantizes, in the order of its operands."""
        return tuple(operand.key for operand in self.operands if operand is not None)

    @property
    def activations(self) -> dict[str, tuple[int, ActivationOperand]]:
        """The activations that the site quantizes by key, each with a side that it is on."""
        return {a.key: (side, a) for side, a in enumerate(self.operands) if isinstance(a, ActivationOperand)}

    @property
    def own_activations(self) -> list[tuple[int, ActivationOperand]]:
        """The activations that are observed at this site, each with its side: a shared one belongs to its first."""
        return [at for key, at in self.activations.items() if key.startswith(f"{self.contraction.id}/")]


@dataclass(frozen=True)
class Plan:
    """A traced function (`jaxpr`, the structure of its result) with its sites and stored weights by key."""

    jaxpr: Any
    out_tree: Any
    leaves: tuple[str, ...]
    _: KW_ONLY
    sites: tuple[SitePlan, ...]
    weights: dict[str, Weight]

    @property
    def quantized(self) -> dict[Location, SitePlan]:
        """The sites that are rewritten, by location."""
        return {s.contraction.location: s for s in self.sites if s.reason is None}

    @property
    def slices(self) -> dict[str, tuple[Location, ...]]:
        """The layer scans that slice each weight or activation, by its key."""
        acts = {key: s.contraction.scans for s in self.sites for key in s.activations}
        return {**acts, **{key: w.slices for key, w in self.weights.items()}}


class _HoldsTracersError(Exception):
    """Carries a plan that must not outlive the transformation whose values the function closes over."""


@forgotten_on_change
@lru_cache(maxsize=64)
def _cached(fn: Callable[..., Any], recipe: QuantRecipe, tree: Any, avals: tuple[Any, ...], settings: Any) -> Plan:
    del settings  # a part of the cache key: settings of jax and the current mesh change what tracing gives
    plan = _make(fn, recipe, tree, avals)
    if closes_over_tracers(plan.jaxpr):
        raise _HoldsTracersError(plan)
    return plan


def make_plan(fn: Callable[..., Any], recipe: QuantRecipe, params: Any, inputs: tuple[Any, ...]) -> Plan:
    """The plan of `fn(params, *inputs)`; only shapes and dtypes of the arguments count.

    Raises `ValueError` for a rule that applies to no site, and where no site is quantized at all.
    """
    leaves, tree = jax.tree.flatten((params, *inputs))
    avals = tuple(placed(leaf) for leaf in leaves)
    mesh = jax.sharding.get_abstract_mesh()
    try:
        return _cached(fn, recipe, tree, avals, (*(getattr(jax.config, name) for name in SETTINGS), mesh))
    except _HoldsTracersError as uncached:
        return uncached.args[0]


def _make(fn: Callable[..., Any], recipe: QuantRecipe, tree: Any, avals: tuple[Any, ...]) -> Plan:
    params, *inputs = jax.tree.unflatten(tree, avals)
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    paths = tuple(leaf_path(p) for p, _ in leaves)
    if len(set(paths)) < len(paths):
        raise ValueError(f"two leaves of `params` have the path {max(paths, key=paths.count)!r}; rename one.")
    try:
        jaxpr, out_tree = trace(fn, (params, *inputs))
    except Exception as error:
        shown = ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")
        error.add_note(
            f"`fn` itself raised this when traced with `params` of leaves {shown or 'none'} and "
            f"{len(inputs)} inputs: {described(tuple(inputs))}. Are these the arguments that it expects? A batch is "
            "the tuple of its inputs, or the one input (a list or a dict is one): leave out what it does not take, "
            "such as labels. Flags go by keyword, as in `q.simulate(params, state, x, train=False)`."
        )
        raise
    contractions = find(jaxpr, leaves, None if recipe.adds else ())
    chosen = {id(c.equation) for c in contractions if not c.blocked and _goes_by_parts(recipe, c)}
    if chosen & joined(jaxpr).keys():
        jaxpr = by_parts(jaxpr, chosen)
        own = {id(c.equation) for c in contractions if c.op == "add"}  # not those that sum the products of parts
        contractions = find(jaxpr, leaves, own)
    if contractions:
        recipe.check_used([(c.path, c.op) for c in contractions])
    tensors, joins = Tensors(leaves), joined(jaxpr)
    for c in contractions:  # a first pass, to know the most bits that any site asks of a shared tensor
        _site(recipe, c, tensors)
    sites = tuple(_joining(_site(recipe, c, tensors), joins) for c in contractions)
    if all(s.reason for s in sites):
        raise ValueError(_nothing(recipe, sites, [leaf.shape for leaf in jax.tree.leaves(inputs)]))
    return Plan(jaxpr, out_tree, leaves=paths, sites=sites, weights=tensors.weights)


def _goes_by_parts(recipe: QuantRecipe, c: Contraction) -> bool:
    rule = recipe.rule_for(c.path, c.op, first=c.first, last=c.last)
    return rule is not None and rule.activations is not None and rule.activations.per == "part"


def _joining(site: SitePlan, joins: dict[int, Joined]) -> SitePlan:
    """The site with `joins` set where one of its activations joins several arrays under one range."""
    one = joins.get(id(site.contraction.equation))
    operand = site.operands[one.side] if one else None
    one_range = isinstance(operand, ActivationOperand) and operand.spec.per != "token"
    return replace(site, joins=len(one.parts)) if one and one_range else site


def _nothing(recipe: QuantRecipe, sites: tuple[SitePlan, ...], shapes: list[tuple[int, ...]]) -> str:
    """The error message where no site is quantized."""
    empty = next((shape for shape in shapes if any(isinstance(n, int) and n == 0 for n in shape)), None)
    if empty is not None:
        return (
            f"an input of shape {empty} has no elements, and with it the function multiplies nothing that recipe "
            f"{recipe.name!r} quantizes. Give inputs with elements."
        )
    reasons = sorted({f"{s.contraction.id}: {s.reason}" for s in sites})[:5]
    return f"recipe {recipe.name!r} quantizes nothing: {'; '.join(reasons) or 'the function has no site'}."


def _site(recipe: QuantRecipe, c: Contraction, tensors: Tensors) -> SitePlan:
    place, rule = recipe.named_rule_for(c.path, c.op, first=c.first, last=c.last)
    reason = _reason(c, rule)
    if reason or rule is None:
        return SitePlan(c, rule, reason or "no rule matches")
    _refuse_no_zero(c, rule)
    operands = []
    for side, operand in enumerate(c.operands[:1] if c.op == "embedding" else c.operands):
        if operand.is_weight:
            operands.append(store_weight(c, side, rule, tensors) if rule.weights else None)
        elif rule.activations is None:
            operands.append(None)
        elif rule.activations.dynamic:
            operands.append(ActivationOperand(f"{c.id}/{('lhs', 'rhs')[side]}", rule.activations))
        else:
            operands.append(share_activation(c, side, (operand.value, place), rule.activations, tensors))
    return SitePlan(c, rule, reason=None, operands=tuple(operands))


def _reason(c: Contraction, rule: QuantRule | None) -> str | None:
    """Why a site stays in float, or None."""
    if c.blocked:
        return c.blocked
    if rule is None:
        return "no rule matches"
    if rule.weights is None and rule.activations is None:
        return "its rule leaves it in float"
    if c.op == "add":
        return _no_addition(rule.activations)
    weighted = any(o.is_weight for o in c.operands)
    if not weighted and not rule.products:
        return "a product of two activations, which its rule leaves in float (products=False)"
    if (rule.activations is None and not weighted) or (rule.weights is None and c.op == "embedding"):
        return f"its rule quantizes {'weights' if rule.activations is None else 'activations'} alone"
    if c.op == "embedding" and math.prod(c.operands[0].shape[i] for i in contracted_axes(c, 0)) == 1:
        return "rows of a single number, whose scales would take more space than the numbers in float"
    if weighted and rule.weights is not None and rule.weights.per == "group":
        return _no_groups(c, rule.weights) or _too_long(c, rule)
    return _too_long(c, rule)


def _refuse_no_zero(c: Contraction, rule: QuantRule) -> None:
    """Raise `ValueError` for a convolution that pads its activation with zero where the grid has none."""
    if c.op != "conv" or rule.activations is None or rule.activations.grid != "midrise" or c.operands[0].is_weight:
        return
    pads = any(n != 0 for pair in c.params["padding"] for n in pair) or any(n != 1 for n in c.params["lhs_dilation"])
    if pads:
        raise ValueError(
            f"{c.path or c.op} pads its activation with zero, which is no level of grid='midrise'. Give the rule of "
            "this layer another grid of activations, such as 'affine'; weights may stay on it."
        )


def _no_addition(spec: TensorSpec | None) -> str | None:
    """Why an addition stays in float, or None."""
    if spec is None:
        return "its rule quantizes weights alone"
    return "an addition needs static ranges, its rule has dynamic ones" if spec.dynamic else None


def _too_long(c: Contraction, rule: QuantRule) -> str | None:
    """Why the integer sum might not fit int32 with 8 bits and any zero point on both sides, or None."""
    specs = [rule.weights if o.is_weight else rule.activations for o in c.operands]
    if c.op == "embedding" or None in specs:
        return None
    longest = LARGEST_SUM // math.prod(255 if s.grid in WITH_ZERO_POINT else 127 for s in specs if s is not None)
    length = contracted(c.op, c.operands, c.params)
    longer = exceeds(length, longest)
    if longer is None:
        raise ValueError(
            f"{c.path or c.op} contracts {length} products, a symbolic length without an upper bound, and the sum of "
            f"over {longest} may not fit int32. Declare its upper bound: "
            f"jax.export.symbolic_shape({str(length)!r}, constraints=['{length} <= {longest}'])."
        )
    return f"contracts {length} products, over the {longest} whose sum fits int32 on its grids" if longer else None


def _no_groups(c: Contraction, spec: TensorSpec) -> str | None:
    assert spec.group_size is not None
    if c.op != "dot_general" or len(c.params["dimension_numbers"][0][0]) != 1:
        return "per-group weights are for dot_general with one contracted axis"
    length = contracted(c.op, c.operands, c.params)
    return f"its {length} products do not divide into groups of {spec.group_size}" if length % spec.group_size else None


def macs(c: Contraction) -> int:
    """Multiply-accumulates of one execution of the site; none for a look-up or an addition."""
    return 0 if c.op in ("embedding", "add") else math.prod(c.out_shape) * contracted(c.op, c.operands, c.params)
