"""What `sites` returns: every contraction with its rule, bits and cost, or why it stays in float; a table in the terminal."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from qat.plan import Activation, Plan, SitePlan, macs
from qat.recipes import QuantRule


@dataclass(frozen=True)
class Site:
    """A contraction or look-up. `rule` is None and `reason` says why where it stays in float.

    `operands` names each side: weight, activation or indices. `bits` are those of its weights and its activations, None
    where they are float (32 stands in the table). `macs` counts multiply-accumulates of one call at the traced shapes, all
    turns of a layer scan included; `bytes` is the size of its weights as stored, `float_bytes` in their own dtype; shared
    weights count at their first site only.
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

    def __rich__(self) -> Any:
        """The table."""
        from qat.tables import sites_table

        return sites_table(self)

    def __repr__(self) -> str:
        from qat.tables import as_text

        return as_text(self.__rich__())


def describe(plan: Plan) -> Sites:
    """The sites of a plan."""
    counted: set[str] = set()
    return Sites([_site(plan, s, counted) for s in plan.sites])


def _site(plan: Plan, s: SitePlan, counted: set[str]) -> Site:
    c, stored, whole = s.contraction, 0.0, 0
    sides = tuple("weight" if o.is_weight else "activation" for o in c.operands)
    names = (sides[0], "indices" if c.op == "embedding" else sides[1])
    weight_bits = activation_bits = None
    for how in s.operands:
        if isinstance(how, Activation):
            activation_bits = how.spec.bits
        elif how is not None:
            w = plan.weights[how[0]]
            weight_bits = w.spec.bits
            if w.key not in counted:
                counted.add(w.key)
                stored += math.prod(w.shape) * w.spec.bits / 8
                whole += math.prod(w.shape) * w.dtype.itemsize
    if s.reason:
        for o in (o for o in c.operands if o.is_weight and o.origin and o.origin.path not in counted):
            counted.add(o.origin.path)
            whole += math.prod((*c.stack, *o.shape)) * o.dtype.itemsize
            stored = float(whole)
    shapes = (c.operands[0].shape, c.operands[1].shape, c.out_shape)
    rule = None if s.reason else s.rule
    return Site(c.id, c.path, c.op, names, shapes, rule, s.reason, weight_bits, activation_bits,
                macs(c) * math.prod(c.stack), stored, whole)  # fmt: skip
