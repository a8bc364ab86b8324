"""Sites of a function: every contraction with its rule, bits and cost, or why it stays in float."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import jax.numpy as jnp

from qat.core.operands import ActivationOperand, WeightOperand
from qat.core.plan import Plan, SitePlan, macs
from qat.recipes.recipe import QuantRule


@dataclass(frozen=True, kw_only=True)
class Site:
    """A contraction or look-up. Where it stays in float `rule` is None and `reason` says why.

    `operands` names each side: weight, activation or indices. `weight_bits` and `activation_bits` are None in float
    (32 in the table). `macs` counts the multiply-accumulates of one call at the traced shapes, every iteration of its
    scans included. `bytes` is the stored size of its weights, `float_bytes` their size in their own dtype; shared
    weights count at their first site only. `joins` is the number of arrays that an activation joins under one range,
    which may be too coarse for the smallest of them; 0 without a join. `narrowed` says that its operands are float64
    and its result is computed in float32.
    """

    id: str
    path: str
    op: str
    operands: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    rule: QuantRule | None
    reason: str | None
    weight_bits: int | None
    activation_bits: int | None
    macs: int
    bytes: float
    float_bytes: int
    joins: int = 0
    narrowed: bool = False

    @property
    def bits(self) -> str:
        """The bits of what it multiplies: see `bits_of_product`."""
        if self.reason is not None:
            return FLOAT
        known = {"weight": self.weight_bits, "activation": self.activation_bits}
        return bits_of_product((name == "weight", known[name]) for name in self.operands if name in known)


FLOAT = "float"


def bits_of_product(sides: Iterable[tuple[bool, int | None]]) -> str:
    """Bits of a product's operands, each given as whether it is a weight, which is told first, and its bits, None in
    float: `4x8` for weights of 4 and activations of 8 bits, `4xfloat` for weights alone, `float` for both in float."""
    told = [FLOAT if bits is None else str(bits) for _, bits in sorted(sides, key=lambda side: not side[0])]
    return FLOAT if {*told} <= {FLOAT} else "x".join(told)


def shares(counted: Iterable[tuple[str, int]]) -> dict[str, float]:
    """The share of all multiplications that each name has, the largest first; empty where there are none."""
    sums: dict[str, int] = {}
    for name, count in counted:
        sums[name] = sums.get(name, 0) + count
    total = sum(sums.values())
    return {name: count / total for name, count in sorted(sums.items(), key=lambda one: -one[1]) if count}


class Sites(Sequence[Site]):
    """The sites of a function in the order of its data flow."""

    def __init__(self, sites: Sequence[Site]):
        self._sites = tuple(sites)

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> "Sites": ...
    def __getitem__(self, index: Any) -> Any:
        return Sites(self._sites[index]) if isinstance(index, slice) else self._sites[index]

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    @property
    def operations(self) -> dict[str, float]:
        """The share of all multiplications at each pair of bits, the largest first: `{"4x4": 0.77, "8x8": 0.23}`."""
        return shares((site.bits, site.macs) for site in self)

    def __rich__(self) -> Any:
        """The table."""
        from qat.core.tables import SitesTable

        return SitesTable(self)

    def __repr__(self) -> str:
        from qat.core.tables import as_text

        return as_text(self.__rich__())


def describe(plan: Plan) -> Sites:
    """The sites of a plan."""
    counted: set[str] = set()
    return Sites([_site(plan, s, counted) for s in plan.sites])


def _once(counted: set[str], key: str) -> bool:
    """Whether `key` is met for the first time."""
    first = key not in counted
    counted.add(key)
    return first


def _site(plan: Plan, s: SitePlan, counted: set[str]) -> Site:
    c, stored, whole = s.contraction, 0.0, 0
    sides = tuple("weight" if o.is_weight else "activation" for o in c.operands)
    names = (sides[0], "indices" if c.op == "embedding" else sides[1])
    weight_bits = activation_bits = None
    for operand, o in zip(s.operands, c.operands, strict=False):
        if isinstance(operand, ActivationOperand):
            activation_bits = operand.spec.bits
        elif isinstance(operand, WeightOperand):
            w = plan.weights[operand.key]
            weight_bits = w.spec.bits
            size = math.prod(w.shape)
            stored += _once(counted, w.key) * size * w.spec.bits / 8
            whole += _once(counted, f"{w.key.split('~')[0]} in its own dtype") * size * w.dtype.itemsize
        elif o.origin is not None:
            size = math.prod((*c.scan_lengths, *o.shape)) * o.dtype.itemsize
            stored += _once(counted, f"{o.origin.path} in float") * size
            whole += _once(counted, f"{o.origin.path} in its own dtype") * size
    shapes = (c.operands[0].shape, c.operands[1].shape, c.out_shape)
    rule = None if s.reason else s.rule
    return Site(
        id=c.id,
        path=c.path,
        op=c.op,
        operands=names,
        shapes=shapes,
        rule=rule,
        reason=s.reason,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        macs=macs(c) * c.trip_count,
        bytes=stored,
        float_bytes=whole,
        joins=s.joins,
        narrowed=s.reason is None and any(o.dtype == jnp.float64 for o in c.operands),
    )
