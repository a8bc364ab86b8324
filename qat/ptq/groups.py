"""Groups of sites whose bits are chosen together, and states and recipes in which each group has its own."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.plan import Plan, SitePlan, macs
from qat.core.state import QuantState, specs
from qat.core.weights import reduced_shape
from qat.numerics import ANY_BITS, WITH_ZERO_POINT
from qat.recipes.layer_bits import at_bits, excluding, with_layer_specs
from qat.recipes.recipe import QuantRecipe, QuantRule, TensorSpec

FLOAT_BITS = 32  # of a value in float, where bit operations count


@dataclass(frozen=True)
class Width:
    """Bits of a group's weights and of its activations, None for what it quantizes none of."""

    weights: int | None
    activations: int | None

    def __str__(self) -> str:
        parts = (("w", self.weights), ("a", self.activations))
        return "".join(f"{name}{bits}" for name, bits in parts if bits is not None)


type Choice = Width | None
"""The width of a group, or None where all of its sites stay in float."""


@dataclass(frozen=True)
class Product:
    """Multiply-accumulates of one site of a group, and which side of it is quantized as what."""

    macs: int
    sides: tuple[str | None, ...]

    def bit_operations(self, choice: Choice) -> int:
        """Multiply-accumulates times the bits of both operands (Baskin et al. 2021, arXiv 1804.10969, count likewise),
        32 for one in float."""
        return self.macs * math.prod(bits_of(side, choice) or FLOAT_BITS for side in self.sides)


@dataclass(frozen=True)
class Group:
    """Sites that share a path, a weight or an activation, and so their bits.

    `paths` and `sites` (their ids) are in the order of the data flow. `weights` and `activations` are the keys of the
    tensors that they quantize, `own` the most bits that their recipe gives these. A `fixed` group stays at its own bits
    or goes to float: its paths have sites besides that differ in more, and bits are given by path. `elements` counts
    the values of each weight, `scales` the bytes of their scales and zero points.
    """

    paths: tuple[str, ...]
    sites: tuple[str, ...]
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    own: Width
    fixed: bool
    elements: tuple[int, ...]
    scales: int
    float_bytes: int
    products: tuple[Product, ...]

    @property
    def name(self) -> str:
        """The first path, with the number of further ones."""
        more = len(self.paths) - 1
        return f"{self.paths[0]} and {more} more" if more else self.paths[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        return sum(product.macs for product in self.products)

    def bytes(self, choice: Choice) -> int:
        """Bytes of the weights' codes and scales; in float, of the weights in their own dtype."""
        if choice is None:
            return self.float_bytes
        bits = choice.weights or 0
        return sum((count * bits + 7) // 8 for count in self.elements) + self.scales

    def bit_operations(self, choice: Choice) -> int:
        """Bit operations of one call."""
        return sum(product.bit_operations(choice) for product in self.products)

    def choices(self, widths: Sequence[int], in_float: bool = True) -> list[Choice]:
        """Every width of weights with every one of activations, and last, where asked for, float."""
        if self.fixed:
            return [self.own, None] if in_float else [self.own]
        own = [sorted(widths) if keys else [None] for keys in (self.weights, self.activations)]
        found: list[Choice] = [Width(w, a) for w in own[0] for a in own[1]]
        return [*found, None] if in_float else found


def bits_of(side: str | None, choice: Choice) -> int | None:
    """The bits of a side that is quantized as `weights` or `activations`; None in float."""
    return None if choice is None or side is None else getattr(choice, side)


def groups_of(plan: Plan) -> tuple[Group, ...]:
    """The groups of a plan's quantized sites, in the order of its data flow."""
    for w in plan.weights.values():
        if w.spec.grid == "midrise":
            raise ValueError(
                f"bits cannot be chosen for {w.key!r}, whose grid='midrise' is one for few bits. Give bits to layers "
                "by hand, or take weights on grid='symmetric'."
            )
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while roots.setdefault(name, name) != name:
            name = roots[name]
        return name

    sites = list(plan.quantized.values())
    for site in sites:
        for name in (f"path {site.contraction.path}", *site.keys):
            roots[root(name)] = root(f"site {site.contraction.id}")
    found: dict[str, list[SitePlan]] = {}
    for site in sites:
        found.setdefault(root(f"site {site.contraction.id}"), []).append(site)
    return tuple(_group(plan, members) for members in found.values())


def _group(plan: Plan, sites: Sequence[SitePlan]) -> Group:
    keys = tuple(dict.fromkeys(key for site in sites for key in site.keys))
    weights = tuple(key for key in keys if key in plan.weights)
    activations = tuple(key for key in keys if key not in plan.weights)
    known = [plan.weights[key] for key in weights]
    numbers = [math.prod(reduced_shape(w)) * (4 if w.spec.grid not in WITH_ZERO_POINT else 8) for w in known]
    whole = {key.split("~")[0]: math.prod(w.shape) * w.dtype.itemsize for key, w in zip(weights, known, strict=True)}
    all_specs = specs(plan)
    most = [max((all_specs[key][0].bits for key in side), default=None) for side in (weights, activations)]
    paths = tuple(dict.fromkeys(site.contraction.path for site in sites))
    return Group(
        paths=paths,
        sites=tuple(site.contraction.id for site in sites),
        weights=weights,
        activations=activations,
        own=Width(*most),
        fixed=any(_differs(plan, path) for path in paths),
        elements=tuple(math.prod(w.shape) for w in known),
        scales=sum(numbers),
        float_bytes=sum(whole.values()),
        products=tuple(_product(site) for site in sites),
    )


def _differs(plan: Plan, path: str) -> bool:
    """Whether the rules of a path's sites differ in more than bits and observers."""
    rules = [s.rule for s in plan.sites if s.contraction.path == path and not s.contraction.blocked]
    kinds = {
        tuple(spec and replace(spec, bits=ANY_BITS, observer="minmax") for spec in _specs_of(rule)) for rule in rules
    }
    return len(kinds) > 1


def _specs_of(rule: QuantRule | None) -> tuple[TensorSpec | None, TensorSpec | None]:
    return (None, None) if rule is None else (rule.weights, rule.activations)


def _product(site: SitePlan) -> Product:
    kinds = {WeightOperand: "weights", ActivationOperand: "activations"}
    sides = tuple(None if operand is None else kinds[type(operand)] for operand in site.operands)
    return Product(macs(site.contraction) * site.contraction.trip_count, sides)


def mixed(states: Mapping[int, QuantState], groups: Iterable[Group], choices: Iterable[Choice]) -> QuantState:
    """The state in which each group has the ranges of its bits, out of `states` by bits; of groups in float none.

    It is of no recipe until one adopts it, and without what observers saw.
    """
    clips, learned = {}, {}
    for key, bits in _bits_by_key(groups, choices):
        clips[key] = states[bits].clips[key]
        learned |= {key: states[bits].learned[key]} if key in states[bits].learned else {}
    return QuantState(clips, learned)


def _bits_by_key(groups: Iterable[Group], choices: Iterable[Choice]) -> Iterator[tuple[str, int]]:
    for group, choice in zip(groups, choices, strict=True):
        if choice is not None:
            yield from ((key, choice.weights) for key in group.weights if choice.weights is not None)
            yield from ((key, choice.activations) for key in group.activations if choice.activations is not None)


def recipe_of(plan: Plan, recipe: QuantRecipe, groups: Sequence[Group], choices: Sequence[Choice]) -> QuantRecipe:
    """The recipe of the plan with the bits that are chosen for each group, layer by layer; fixed ones keep theirs."""
    chosen = {path: (group, one) for group, one in zip(groups, choices, strict=True) for path in group.paths}
    weights, activations = {}, {}
    for site in plan.quantized.values():
        path, (of_weights, of_activations) = site.contraction.path, _specs_of(site.rule)
        group, choice = chosen[path]
        if choice is None or group.fixed:
            continue
        if of_weights is not None and choice.weights is not None:
            weights[path] = at_bits(recipe, of_weights, choice.weights)
        if of_activations is not None and choice.activations is not None:
            activations[path] = at_bits(recipe, of_activations, choice.activations)
    changed = with_layer_specs(recipe, weights, activations)
    left = [path for path, (_, choice) in chosen.items() if choice is None]
    return excluding(changed, left, [(s.contraction.path, s.contraction.op) for s in plan.sites]) if left else changed
