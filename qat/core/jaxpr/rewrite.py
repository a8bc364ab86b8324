"""Evaluate a function with its sites replaced, through every control flow that jax can reverse or loop over.

A rewriting hands each site two kinds of values. `operands` are only read (scales, integer weights); `carried` values
are read and returned updated (observer states). In a layer scan both are sliced along their leading axis where the
rewriting says so; in any other loop operands are constants of the loop and carried values are part of its carry.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Contraction, Location

Values = dict[str, Any]
Scope = dict[Any, Any]
Handler = Callable[[Contraction, Any, list[Any], Values, Any, Scope], tuple[Any, Any]]
"""(site, equation, arrays that it reads, operands, carried value of the site, scope) -> (result, new carried value).

The sites of one jaxpr, and of calls in it, share `scope` while it is evaluated: a dict for values that several need."""


@dataclass(frozen=True)
class Rewriting:
    """The sites to rewrite, the function that handles them, and the layer scans that slice each operand's values."""

    sites: Mapping[Location, Contraction]
    handler: Handler
    slices: Mapping[str, tuple[Location, ...]]

    def inside(self, location: Location) -> list[Contraction]:
        """The sites in the jaxprs of the equation at `location`."""
        return [c for place, c in self.sites.items() if place[: len(location)] == location]

    @cached_property
    def nests(self) -> frozenset[Location]:
        """Locations of the equations that hold a site in one of their jaxprs."""
        return frozenset(place[:n] for place in self.sites for n in range(1, len(place)))


def rewrite(
    rewriting: Rewriting, jaxpr: Any, args: list[Any], operands: Values, carried: Values
) -> tuple[list[Any], Values]:
    """Outputs of `jaxpr` with its sites handled, and the updated carried values by site id."""
    return _run(rewriting, jaxpr, args, (), operands, carried, {})


def _run(r: Rewriting, jaxpr: Any, args: list[Any], at: Location, operands: Values, carried: Values, scope: Scope):
    # A copy, as jax may trace a loop's body more than once from the same values.
    carried = dict(carried)

    def rule(index: int, eqn: Any, arrays: list[Any]) -> list[Any]:
        # Invariant: `carried` has one entry for each site that it was called with, updated as sites are passed and
        # never enlarged: loops and branches carry it, so that its structure must not depend on the way taken.
        here = (*at, index)
        if here in r.sites:
            site = r.sites[here]
            out, state = r.handler(site, eqn, arrays, operands, carried.get(site.id), scope)
            carried.update({site.id: state} if site.id in carried else {})
            return [out]
        # An equation that holds no site is bound as it was traced, control flow included: a program without sites is
        # left untouched.
        if here not in r.nests:
            return layouts.bind(eqn, arrays)
        name = eqn.primitive.name
        # Only the values of sites inside are passed in, so that a loop carries no more than it may change.
        own = {c.id: carried[c.id] for c in r.inside(here) if c.id in carried}
        # A plain call is evaluated in place and shares the scope: its sites see the same arrays as those around it.
        # Arrays made inside a remat, loop or branch cannot be used outside, so each of these starts a new scope.
        if name in layouts.INLINED:
            outs, new = _run(r, layouts.inlined_jaxpr(eqn), arrays, (*here, "call"), operands, own, scope)
        else:
            outs, new = (_remat if name in layouts.REMAT else CONTROL[name])(r, eqn, arrays, here, operands, own)
        carried.update(new)
        return outs

    return layouts.evaluate(jaxpr, args, rule), carried


def _remat(r: Rewriting, eqn: Any, args: list[Any], at: Location, operands: Values, carried: Values):
    p = eqn.params

    def body(args: list[Any], operands: Values, carried: Values):
        return _run(r, p["jaxpr"], args, (*at, "call"), operands, carried, {})

    return jax.checkpoint(body, prevent_cse=p["prevent_cse"], policy=p["policy"])(args, operands, carried)


def _scan(r: Rewriting, eqn: Any, args: list[Any], at: Location, operands: Values, carried: Values):
    s = layouts.scan_layout(eqn)
    consts, carry, xs = args[: s.consts], args[s.consts : s.consts + s.carry], args[s.consts + s.carry :]
    # A stacked weight's values have a row for each iteration of the scan around it, which the scan itself slices.
    sliced = {key: value for key, value in operands.items() if at in r.slices.get(key, ())}
    # A site of a layer scan has a state for each layer, which is sliced and stacked like the scan's own arrays. A site
    # in a scan over time has one state for all iterations, so it is carried from each iteration to the next.
    layered = {c.id for c in r.inside(at) if at in c.scans}
    carried_xs = {key: value for key, value in carried.items() if key in layered}
    carried_whole = {key: value for key, value in carried.items() if key not in layered}

    def body(state: Any, x: Any):
        carry, whole = state
        slices, operands_here, carried_here = x
        # The slices replace the whole operands, under the same keys.
        outs, new = _run(
            r,
            s.body,
            [*consts, *carry, *slices],
            (*at, "call"),
            {**operands, **operands_here},
            {**whole, **carried_here},
            {},
        )
        return (outs[: s.carry], {k: new[k] for k in whole}), (outs[s.carry :], {k: new[k] for k in carried_here})

    slices = (xs, sliced, carried_xs)
    length = None if jax.tree.leaves(slices) else s.length  # a symbolic length is read off the slices
    (carry, carried_whole), (ys, carried_ys) = jax.lax.scan(
        body, (carry, carried_whole), slices, length, reverse=s.reverse, unroll=s.unroll
    )
    return [*carry, *ys], {**carried_whole, **carried_ys}


def _while(r: Rewriting, eqn: Any, args: list[Any], at: Location, operands: Values, carried: Values):
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def cond(state: Any) -> Any:
        # `find` blocks every site in a condition: it can return no states.
        return layouts.evaluate(p["cond_jaxpr"], [*args[:n], *state[0]], lambda _, e, v: layouts.bind(e, v))[0]

    def body(state: Any):
        # The states are part of the carry: how often the loop runs is not known, so there is no axis to stack them
        # along.
        return _run(r, p["body_jaxpr"], [*args[n:m], *state[0]], (*at, "call"), operands, state[1], {})

    return jax.lax.while_loop(cond, body, (args[m:], carried))


def _cond(r: Rewriting, eqn: Any, args: list[Any], at: Location, operands: Values, carried: Values):
    def branch(i: int) -> Callable[..., Any]:
        return lambda args, carried: _run(
            r, eqn.params["branches"][i], args, (*at, f"branches[{i}]"), operands, carried, {}
        )

    # All branches return the states of all sites in the equation, those of the other branches unchanged: branches of
    # one `switch` must agree in structure.
    branches = [branch(i) for i in range(len(eqn.params["branches"]))]
    platforms = layouts.branch_platforms(eqn)
    if platforms is None:
        return jax.lax.switch(args[0], branches, args[1:], carried)
    # `platform_dependent` must stay one: the choice is made when the program is lowered, and the branches of other
    # platforms may not compile there.
    named = {name: one for one, names in zip(branches, platforms, strict=True) for name in names or ()}
    default = branches[-1] if platforms[-1] is None else None
    return jax.lax.platform_dependent(args[1:], carried, **named, default=default)


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
