"""Tensors that a plan quantizes: stored weights, shared by the sites that use the same one, and activations."""

from dataclasses import dataclass, field, replace
from typing import Any

from qat.core.jaxpr import Contraction, Location, Origin
from qat.core.operands import ActivationOperand, WeightOperand
from qat.numerics import ANY_BITS, WITH_ZERO_POINT
from qat.recipes.recipe import QuantRule, TensorSpec

Axes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A stored weight tensor: a parameter leaf or, where `leaf` is None, a value that a site computes from parameters.

    Layer scans slice off its leading `depth` axes; `slices` names these scans for every site that uses it. `place` is
    the site and the side where a computed weight is found; computed weights of equal `value` are one array. `channels`
    are the axes with one scale for each index, `summed` the axes that its sites contract, `group` the axis along which
    groups of products share a scale. `totals` says whether a product needs the sums of its codes, as a product with an
    affine activation does.
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
    value: Any
    totals: bool

    @property
    def groups(self) -> dict[int, int]:
        """The number of groups by axis: of the grouped axis alone; empty where scales are not in groups."""
        if self.group is None or self.spec.group_size is None:
            return {}
        return {self.group: self.shape[self.group] // self.spec.group_size}


@dataclass
class Tensors:
    """Tensors stored so far: weights by key, and the activations that a site already quantizes, by value and rule."""

    leaves: list[Any]
    weights: dict[str, Weight] = field(default_factory=dict)
    activations: dict[Any, ActivationOperand] = field(default_factory=dict)


def contracted_axes(c: Contraction, side: int) -> Axes:
    """The axes of an operand that the contraction sums over; for an embedding the axes of a row, for an addition the
    last axis, that of features."""
    ndim = len(c.operands[side].shape)
    if c.op == "add":
        return tuple(range(ndim))[-1:]
    if c.op == "dot_general":
        return tuple(c.params["dimension_numbers"][0][side])
    if c.op == "embedding":
        rows = c.params["dimension_numbers"].collapsed_slice_dims
        return tuple(i for i in range(ndim) if i not in rows)
    numbers = c.params["dimension_numbers"]
    free = numbers.lhs_spec[0] if side == 0 else numbers.rhs_spec[0]
    return tuple(i for i in range(ndim) if i != free)


def share_activation(c: Contraction, side: int, value: Any, spec: TensorSpec, tensors: Tensors) -> ActivationOperand:
    """Add a site's activation to the quantized ones, or find it among them: equal values of equal specs are shared."""
    place = (value, _bare(spec))
    made = ActivationOperand(f"{c.id}/{('lhs', 'rhs')[side]}", spec)
    found = tensors.activations.setdefault(place, made)
    if spec.bits > found.spec.bits:
        found = tensors.activations[place] = replace(found, spec=spec)
    return found


def store_weight(c: Contraction, side: int, rule: QuantRule, tensors: Tensors) -> WeightOperand:
    """Add a site's weight to the stored ones, or find it among them.

    A weight that several sites use in the same way (a tied embedding, a shared layer, a stack scanned twice) is stored
    once, at the most bits that any of them asks for.
    """
    operand, spec, weights = c.operands[side], rule.weights, tensors.weights
    origin = operand.origin
    assert isinstance(origin, Origin) and spec is not None
    totals = c.op != "embedding" and rule.activations is not None and rule.activations.grid in WITH_ZERO_POINT
    ndim, summed = len(operand.shape), contracted_axes(c, side)
    direct = origin.perm is not None
    perm = origin.perm if origin.perm is not None else tuple(range(ndim))
    depth = len(origin.scans) if direct else len(c.scans)

    def stored(axes: Axes) -> Axes:
        return tuple(sorted(depth + perm[i] for i in axes))

    inner = tuple(i for i in range(ndim) if i not in summed) if spec.per in ("channel", "group") else ()
    channels = (*range(depth), *stored(inner))
    group = stored(summed)[0] if spec.per == "group" else None
    shape = tensors.leaves[origin.leaf][1].shape if direct else (*c.scan_lengths, *operand.shape)
    made = Weight(
        key="",
        spec=spec,
        shape=tuple(shape),
        dtype=operand.dtype,
        leaf=origin.leaf if direct else None,
        depth=depth,
        channels=channels,
        summed=stored(summed),
        group=group,
        slices=origin.scans if direct else c.scans,
        place=(c.location, side),
        value=None if direct else operand.value or (c.location, side),
        totals=totals,
    )
    found = next((w for w in weights.values() if _alike(w, made)), None)
    if found is None:
        key = _free_key(origin.path if direct else f"{c.id}/{('lhs', 'rhs')[side]}", weights)
        weights[key] = replace(made, key=key)
        return WeightOperand(key, perm)
    weights[found.key] = replace(
        found,
        spec=replace(found.spec, bits=max(spec.bits, found.spec.bits)),
        slices=tuple(dict.fromkeys((*found.slices, *made.slices))),
        totals=found.totals or totals,
    )
    return WeightOperand(found.key, perm)


def _free_key(base: str, weights: dict[str, Weight]) -> str:
    return next(key for n in range(len(weights) + 1) if (key := f"{base}~{n}" if n else base) not in weights)


def _alike(a: Weight, b: Weight) -> bool:
    same = ("shape", "dtype", "leaf", "depth", "channels", "summed", "group", "value")
    return _bare(a.spec) == _bare(b.spec) and all(getattr(a, n) == getattr(b, n) for n in same)


def _bare(spec: TensorSpec) -> TensorSpec:
    return replace(spec, bits=ANY_BITS, observer="minmax")
