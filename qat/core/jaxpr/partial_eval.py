"""Partial evaluation: operands of sites that depend on parameters alone, computed without the inputs."""

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

    Operands inside layer scans are stacked, with one leading axis for each scan. Every wanted operand is computed once,
    whichever branches the inputs would choose.
    """
    inner, _ = layouts.open_jaxpr(jaxpr)
    found: dict[Location, Any] = {}
    if wanted:
        _run(jaxpr, [*leaves, *[UNKNOWN] * (len(inner.invars) - len(leaves))], (), wanted, found)
    return found


def _run(jaxpr: Any, args: list[Any], at: Location, wanted: Mapping[Location, Any], found: dict[Location, Any]):
    def rule(index: int, eqn: Any, operands: list[Any]) -> list[Any]:
        here = (*at, index)
        # The operand is stored before its equation is evaluated: the site's result is mostly unknown, since its other
        # operand depends on the inputs.
        if here in wanted:
            found[here] = operands[wanted[here][1]]
        name = eqn.primitive.name
        nested = any(place[: len(here)] == here for place in wanted)
        # A call whose operands are all known is bound as one equation (next rules), unless a wanted operand lies
        # inside. A call with some unknown operand is entered, since other results of it may still be known.
        if (name in layouts.INLINED or name in layouts.REMAT) and (nested or any(v is UNKNOWN for v in operands)):
            return _run(layouts.inlined_jaxpr(eqn), operands, (*here, "call"), wanted, found)
        # Results of control flow are never known: a value made by a loop is no weight (see `provenance`). So it is
        # entered only for the sites in its bodies, and never run otherwise.
        if name in ("scan", "while", "cond"):
            if nested:
                _control(name, eqn, operands, here, wanted, found)
            return [UNKNOWN] * len(eqn.outvars)
        # Effects (printing, callbacks, random state) must not happen here: they belong to the user's own call alone.
        if eqn.effects or any(v is UNKNOWN for v in operands):
            return [UNKNOWN] * len(eqn.outvars)
        return layouts.bind(eqn, operands)

    return layouts.evaluate(jaxpr, args, rule)


def _control(name: str, eqn: Any, args: list[Any], at: Location, wanted: Mapping[Location, Any], found: dict) -> None:
    p = eqn.params
    if name == "cond":
        # Every branch is evaluated, whichever the inputs would choose: a wanted operand depends on parameters alone,
        # and is needed whenever its branch runs.
        for i, branch in enumerate(p["branches"]):
            _run(branch, args[1:], (*at, f"branches[{i}]"), wanted, found)
    elif name == "while":
        n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
        # Once is enough: the loop's carry is unknown, and what does not depend on it is the same in every iteration.
        _run(p["body_jaxpr"], [*args[n:m], *[UNKNOWN] * len(args[m:])], (*at, "call"), wanted, found)
    else:
        _scan(eqn, args, at, wanted, found)


def _scan(eqn: Any, args: list[Any], at: Location, wanted: Mapping[Location, Any], found: dict) -> None:
    s = layouts.scan_layout(eqn)
    consts, xs = args[: s.consts], args[s.consts + s.carry :]
    places = [place for place in wanted if place[: len(at)] == at]
    layered = {place for place in places if at in wanted[place][0].scans}

    def body(_: None, sliced: dict[int, Any]):
        # Not `found` itself: operands in the body are tracers of the scan, which become arrays only as its stacked
        # results.
        inner: dict[Location, Any] = {}
        slices = [sliced.get(i, UNKNOWN) for i in range(len(xs))]
        _run(s.body, [*consts, *[UNKNOWN] * s.carry, *slices], (*at, "call"), wanted, inner)
        return None, {repr(place): value for place, value in inner.items()}

    # A scan's operand is stacked only where the site is inside a layer scan. Where none of them is, no slice is
    # known, nothing in the body differs between iterations, and a single evaluation gives what is wanted.
    if layered:
        known = {i: x for i, x in enumerate(xs) if x is not UNKNOWN}
        _, stacked = jax.lax.scan(body, None, known, s.length)
        # Locations are tuples of numbers and strings, which a pytree's sorted keys cannot mix: so they cross the scan
        # as text.
        found.update({place: stacked[repr(place)] for place in places})
    else:
        _, once = body(None, {})
        found.update({place: once[repr(place)] for place in places})
