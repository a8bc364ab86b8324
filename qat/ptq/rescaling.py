"""Channels that can be scaled in one layer and back in the next, found in the jaxpr: the float function stays equal."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.jaxpr import Contraction
from qat.core.jaxpr.graph import Graph, Node, Value, graph_of, moved_axes, spread_leaf
from qat.core.plan import Plan
from qat.ptq.channels import CONTRACTIONS, LeftError, axis_after, axis_before, back_axis, contracted_axis, weight_axis
from qat.transform import Quantized

COMPARISONS = {"gt", "ge", "lt", "le"}

Along = tuple[int, int]
"""A leaf of the parameters and the axis of its channels."""


@dataclass(frozen=True)
class Pair:
    """Channels between layers: `up` leaves take a factor a channel, `down` leaves its inverse, all else stays.

    `value` with its channel axis is what the `readers`, sites by id, contract. `kernels` are the up leaves that a
    contraction multiplies; where there are none a norm's scale stands behind `before`, the kernel of the layer before
    it, times the known value `gain`, each with its channel axis, or None where none is found.
    """

    value: Value
    axis: int
    readers: tuple[str, ...]
    up: tuple[Along, ...]
    down: tuple[Along, ...]
    kernels: tuple[Along, ...]
    before: Along | None = None
    gain: tuple[Value, int] | None = None

    def scaled(self, params: Any, factor: np.ndarray) -> Any:
        """The parameters with the channels of `value` multiplied by `factor`, and back in the layers that read it."""
        leaves, tree = jax.tree.flatten(params)
        for way, ends in ((factor, self.up), (1 / factor, self.down)):
            for leaf, axis in ends:
                x = leaves[leaf]
                shape = [n if i == axis else 1 for i, n in enumerate(x.shape)]
                leaves[leaf] = (x * jnp.asarray(way.reshape(shape), jnp.float32)).astype(x.dtype)
        return jax.tree.unflatten(tree, leaves)


def pairs_of(plan: Plan, params: Any) -> tuple[list[Pair], dict[str, str]]:
    """The pairs of a function, and by site why the channels that others read cannot be scaled."""
    graph = graph_of(plan.jaxpr, len(jax.tree.leaves(params)))
    sites = {site.contraction.location: site.contraction for site in plan.sites}
    found: dict[tuple[Along, ...], Pair] = {}
    left: dict[str, str] = {}
    for c in sites.values():
        if c.op == "embedding" or [o.is_weight for o in c.operands].count(True) != 1:
            continue
        try:
            node = graph.at.get(c.location)
            if node is None:
                raise LeftError("it stands in a loop or branch")
            pair = _Region(graph, sites).solve(node)
            found.setdefault(pair.up, pair)
        except LeftError as error:
            left[c.id] = str(error)
    return list(found.values()), left


def largest(leaves: list[Any], along: Along) -> np.ndarray:
    """The largest size of a leaf's values, by channel."""
    leaf, axis = along
    x = np.abs(np.asarray(leaves[leaf], np.float64))
    return x.max(tuple(i for i in range(x.ndim) if i != axis))


def require_equal(q: Quantized, before: Any, after: Any, inputs: tuple[Any, ...]) -> None:
    """Raise `ValueError` where the float function on other parameters is another one, beyond rounding."""
    outputs = zip(*(jax.tree.leaves(jax.jit(q.fn)(params, *inputs)) for params in (before, after)), strict=True)
    for x, y in outputs:
        if jnp.issubdtype(x.dtype, jnp.floating):
            # A hundred times what one rounding may move; sums of many differ by more than one.
            most = max(1e-4, 100 * float(jnp.finfo(x.dtype).eps)) * float(jnp.abs(x).max())
            if float(jnp.abs(x - y).max()) > most:
                raise ValueError(
                    f"scaling channels moved the float function by {float(jnp.abs(x - y).max()):.3g}, over the "
                    f"{most:.3g} of rounding. Leave the method out for this model."
                )


@dataclass
class _Region:
    """Values that are scaled along an axis each, and the leaves that make it so."""

    graph: Graph
    sites: dict[Any, Contraction]
    axes: dict[Value, int] = field(default_factory=dict)
    up: dict[Along, None] = field(default_factory=dict)
    down: dict[Along, str] = field(default_factory=dict)
    kernels: dict[Along, None] = field(default_factory=dict)
    by_leaf: set[Value] = field(default_factory=set)
    before: Along | None = None
    gain: tuple[Value, int] | None = None

    def solve(self, reader: Node) -> Pair:
        """The pair whose channels a contraction reads. Raises `LeftError` where there is none."""
        side = next(i for i, o in enumerate(self.sites[reader.location].operands) if not o.is_weight)
        value, axis = reader.reads[side], contracted_axis(reader, side)
        self._scale(value, axis)
        checked: set[Value] = set()
        # Invariant: every reader of a checked value is scaled with it, or takes the factor back. Values only enter,
        # and there are finitely many.
        while open_values := [v for v in self.axes if v not in checked]:
            for v in open_values:
                checked.add(v)
                self._read(v)
        self._check_once()
        readers = tuple(dict.fromkeys(self.down.values()))
        ends = tuple(self.up), tuple(self.down), tuple(self.kernels)
        return Pair(value, axis, readers, *ends, before=self.before, gain=self.gain)

    def _scale(self, value: Value, axis: int) -> None:
        """Have a value scaled along an axis, by what makes it."""
        if value in self.axes:
            if self.axes[value] != axis:
                raise LeftError("its channels meet others")
            return
        node = self.graph.maker.get(value)
        if value in self.graph.outputs or node is None:
            raise LeftError("the function returns what it reads" if node else "it reads an input of the function")
        self.axes[value] = axis
        parts = {known: [v for v in node.reads if (v in self.graph.known) == known] for known in (False, True)}
        rule = _RULES.get(node.name, _Region._moving)
        rule(self, node, axis, parts[False], parts[True])

    def _contraction(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        if len(data) != 1 or len(known) != 1:
            raise LeftError(f"before it is a product, `{node.name}`, of two activations")
        along = self._leaf(known[0], weight_axis(node, self.graph, node.reads.index(known[0]), axis))
        self.kernels[along] = self.up[along] = None

    def _product(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        if known and (scale := self._scale_leaf(known[0], axis)) is not None:
            self.up[scale] = None
            self._find_before(data[0], (known[0], axis))
            self.by_leaf.add(node.makes[0])
            return
        # One factor is enough: of a norm that which holds its scale. Both would scale the product twice.
        if not any(v in self.axes for v in data):
            self._one_of(data, axis)

    def _one_of(self, data: list[Value], axis: int) -> None:
        """Have the last of these values scaled for which it can be done."""
        axes, up, kernels = dict(self.axes), dict(self.up), dict(self.kernels)
        for v in data[:0:-1]:
            try:
                self._scale(v, axis)
                return
            except LeftError:
                self.axes, self.up, self.kernels = dict(axes), dict(up), dict(kernels)
        self._scale(data[0], axis)

    def _quotient(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        if node.reads[1] not in known:
            raise LeftError("before it is a division by an activation")
        self._scale(data[0], axis)

    def _sum(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        for v in known:
            self.up[self._leaf(v, axis)] = None
        for v in data:
            self._scale(v, axis)

    def _bound(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        if not all(map(self._is_zero, known)):
            raise LeftError(f"before it is `{node.name}` with another bound than zero")
        for v in data:
            self._scale(v, axis)

    def _choice(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        for v in data[1:]:
            self._scale(v, axis)
        if not all(map(self._is_zero, known)) or not self._compares(data[0]):
            raise LeftError("before it is `select_n`, of another condition than a sign")

    def _moving(self, node: Node, axis: int, data: list[Value], known: list[Value]) -> None:
        before = None if known or len(data) != 1 else axis_before(self.graph, node, axis)
        if before is None:
            raise LeftError(f"before it is `{node.name}`, which does not scale with its operand")
        self._scale(data[0], before)

    def _read(self, value: Value) -> None:
        """Have all readers of a scaled value scaled with it, or take the factor back."""
        axis = self.axes[value]
        for node in self.graph.readers.get(value, ()):
            if self._is_sign(node):
                continue
            if node.name in CONTRACTIONS and node.location in self.sites:
                side = node.reads.index(value)
                other = node.reads[1 - side]
                if other in self.graph.known and contracted_axis(node, side) == axis:
                    along = self._leaf(other, back_axis(node, 1 - side))
                    self.down[along] = self.sites[node.location].id
                    continue
            elif node.makes[0] in self.axes:
                continue
            after = axis_after(self.graph, node, value, axis)
            if after is None:
                raise LeftError(f"`{node.name}` reads these channels too")
            self._scale(node.makes[0], after)

    def _check_once(self) -> None:
        """Refuse what would be scaled twice or in part: a product takes the factor from one side alone, a sum from
        all."""
        for value in self.axes:
            node = self.graph.maker[value]
            scaled = sum(v in self.axes for v in node.reads)
            data = sum(v not in self.graph.known for v in node.reads)
            if node.name in ("mul", "div"):
                right = scaled == (value not in self.by_leaf)
            else:
                right = node.name in (*CONTRACTIONS, "select_n") or scaled == data
            if not right:
                raise LeftError(f"`{node.name}` meets these channels twice")

    def _leaf(self, value: Value, axis: int) -> Along:
        spread = spread_leaf(self.graph, value)
        if spread is None or spread.axes[axis] is None:
            raise LeftError("a parameter there is computed, or read elsewhere, or has no axis of channels")
        along = spread.axes[axis]
        assert along is not None
        return spread.leaf, along

    def _scale_leaf(self, value: Value, axis: int) -> Along | None:
        """The leaf that a known factor is proportional to, such as a norm's scale."""
        spread = spread_leaf(self.graph, value)
        if spread is not None and (along := spread.axes[axis]) is not None:
            return spread.leaf, along
        node = self.graph.maker.get(value)
        if node is None or node.name != "mul" or len(self.graph.readers[value]) != 1:
            return None
        return next((one for v in node.reads if (one := self._scale_leaf(v, axis)) is not None), None)

    def _find_before(self, value: Value, gain: tuple[Value, int]) -> None:
        """Note the kernel of the layer before a norm, where nothing but known values stands between."""
        axis = gain[1]
        while (node := self.graph.maker.get(value)) is not None:  # pyright: ignore[reportAssignmentType]
            known = [v for v in node.reads if v in self.graph.known]
            if node.name in CONTRACTIONS and len(known) == 1:
                spread = spread_leaf(self.graph, known[0])
                along = spread and spread.axes[weight_axis(node, self.graph, node.reads.index(known[0]), axis)]
                if spread is not None and along is not None:
                    self.before, self.gain = (spread.leaf, along), gain
                return
            if node.name not in ("add", "sub", "convert_element_type") or len(node.reads) - len(known) != 1:
                return
            value = next(v for v in node.reads if v not in known)

    def _is_zero(self, value: Value) -> bool:
        x = self.graph.constants.get(value)
        if x is None and (node := self.graph.maker.get(value)) is not None and len(node.reads) == 1:
            return moved_axes(self.graph, node, node.reads[0]) is not None and self._is_zero(node.reads[0])
        return x is not None and bool((np.asarray(x) == 0).all())

    def _is_sign(self, node: Node) -> bool:
        return node.name in COMPARISONS and any(self._is_zero(v) for v in node.reads)

    def _compares(self, value: Value) -> bool:
        """Whether a condition is the sign of a scaled value."""
        node = self.graph.maker.get(value)
        return node is not None and self._is_sign(node) and any(v in self.axes for v in node.reads)


_RULES = {
    **dict.fromkeys(CONTRACTIONS, _Region._contraction),
    **dict.fromkeys(("add", "add_any"), _Region._sum),
    **dict.fromkeys(("max", "min"), _Region._bound),
    "mul": _Region._product,
    "div": _Region._quotient,
    "select_n": _Region._choice,
}
"""By primitive, the rule that scales its result: from the axis, and its operands that are data and known."""
