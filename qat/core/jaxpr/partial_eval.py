"""Partial evaluation: the operands of sites that depend on parameters alone, computed from the parameters alone."""

from collections.abc import Mapping
from typing import Any

import jax

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Contraction, Location


class _Unknown:
    """Stands for every value that depends on more than the parameters."""


UNKNOWN = _Unknown()


def known_operands(
    jaxpr: Any, leaves: list[Any], wanted: Mapping[Location, tuple[Contraction, int]]
) -> dict[Location, Any]:
    """Values of the wanted operands (a site and which of its operands), by the site's location.

    Those inside layer scans come stacked along a leading axis a scan. Whatever the function's inputs, control flow
    included, every wanted operand is computed, and only once.
    """
    inner, _ = layouts.open_jaxpr(jaxpr)
    found: dict[Location, Any] = {}
    if wanted:
        _run(jaxpr, [*leaves, *[UNKNOWN] * (len(inner.invars) - len(leaves))], (), wanted, found)
    return found


def _run(jaxpr: Any, args: list[Any], at: Location, wanted: Mapping[Location, Any], found: dict[Location, Any]):
    def rule(index: int, eqn: Any, operands: list[Any]) -> list[Any]:
        here = (*at, index)
        if here in wanted:
            found[here] = operands[wanted[here][1]]
        name = eqn.primitive.name
        nested = any(place[: len(here)] == here for place in wanted)
        if (name in layouts.INLINED or name in layouts.REMAT) and (nested or any(v is UNKNOWN for v in operands)):
            return _run(layouts.inlined_jaxpr(eqn), operands, (*here, "call"), wanted, found)
        if name in ("scan", "while", "cond"):
            if nested:
                _control(name, eqn, operands, here, wanted, found)
            return [UNKNOWN] * len(eqn.outvars)
        if eqn.effects or any(v is UNKNOWN for v in operands):
            return [UNKNOWN] * len(eqn.outvars)
        return layouts.bind(eqn, operands)

    return layouts.evaluate(jaxpr, args, rule)


def _control(name: str, eqn: Any, args: list[Any], at: Location, wanted: Mapping[Location, Any], found: dict) -> None:
    p = eqn.params
    if name == "cond":
        for i, branch in enumerate(p["branches"]):
            _run(branch, args[1:], (*at, f"branches[{i}]"), wanted, found)
    elif name == "while":
        n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
        _run(p["body_jaxpr"], [*args[n:m], *[UNKNOWN] * len(args[m:])], (*at, "call"), wanted, found)
    else:
        _scan(eqn, args, at, wanted, found)


def _scan(eqn: Any, args: list[Any], at: Location, wanted: Mapping[Location, Any], found: dict) -> None:
    s = layouts.scan_layout(eqn)
    consts, xs = args[: s.consts], args[s.consts + s.carry :]
    places = [place for place in wanted if place[: len(at)] == at]
    layered = {place for place in places if at in wanted[place][0].scans}

    def body(_: None, sliced: dict[int, Any]):
        inner: dict[Location, Any] = {}
        slices = [sliced.get(i, UNKNOWN) for i in range(len(xs))]
        _run(s.body, [*consts, *[UNKNOWN] * s.carry, *slices], (*at, "call"), wanted, inner)
        return None, {repr(place): value for place, value in inner.items()}

    if layered:
        known = {i: x for i, x in enumerate(xs) if x is not UNKNOWN}
        _, stacked = jax.lax.scan(body, None, known, s.length)
        found.update({place: stacked[repr(place)] for place in places})
    else:
        _, once = body(None, {})
        found.update({place: once[repr(place)] for place in places})
