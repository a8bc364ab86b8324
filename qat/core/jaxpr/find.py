"""Find and name every contraction of a function; knows no quantization."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import (
    Contraction,
    Location,
    Operand,
    Origin,
    clean_scope,
    leaf_path,
    site_path,
)
from qat.core.jaxpr.eligible import LISTED_ONLY, OPS, blocked_by, empty_operand, has_no_elements, is_addition, made_by
from qat.core.jaxpr.provenance import FLOATS, Info, follow, repeats, sliced


@dataclass(frozen=True)
class Scope:
    """The place of an equation in the nesting of jaxprs."""

    location: Location = ()
    names: str = ""
    scans: tuple[Location, ...] = ()
    scan_lengths: tuple[int, ...] = ()
    trip_count: int = 1
    blocked: str | None = None
    settled: bool = False
    record: bool = True

    def enter(self, index: int, name: str, eqn: Any, **changes: Any) -> "Scope":
        """The scope of a jaxpr that an equation here holds."""
        names = f"{self.names}/{eqn.source_info.name_stack}"
        return replace(self, location=(*self.location, index, name), names=names, **changes)


@dataclass
class _Walk:
    """Contractions found so far, the sites that some later weight depends on, the scans that slice a weight, and
    whether an input of the function has no elements. Of additions, `adds` says which are looked for (an equation's
    identity; None: all) and `reads` by site what it reads: contractions, additions and inputs."""

    found: list[Contraction] = field(default_factory=list)
    followed: set[Location] = field(default_factory=set)
    sliced: set[Location] = field(default_factory=set)
    empty: bool = False
    adds: Collection[int] | None = ()
    reads: dict[Location, frozenset[Location]] = field(default_factory=dict)


def find(jaxpr: Any, leaves: list[tuple[Any, Any]], adds: Collection[int] | None = ()) -> list[Contraction]:
    """The contractions of a traced function whose first inputs are the parameter `leaves` (key path, aval).

    With `adds`, identities of equations or None for all of them, also the additions of two activations that join
    branches of the network, as far as a contraction or another such addition reads the sum.
    """
    inner, _ = layouts.open_jaxpr(jaxpr)
    infos = [
        Info(False, None, frozenset(), sources=frozenset([("input", i)] if _is_floating(v) else []))
        for i, v in enumerate(inner.invars)
    ]
    for i, (path, leaf) in enumerate(leaves):
        infos[i] = Info(True, Origin(i, leaf_path(path), leaf.dtype, perm=tuple(range(len(leaf.shape)))), frozenset())
    walk = _Walk(empty=any(has_no_elements(v) for v in inner.invars[len(leaves) :]), adds=adds)
    _jaxpr(walk, jaxpr, infos, Scope())
    counts: Counter[tuple[str, str]] = Counter()
    sites, unread = [], _unread(walk)
    # Sites of one path and op are numbered in order of evaluation, so ids stay for as long as modules are called in
    # the same order.
    for c in walk.found:
        if c.location in unread:
            continue
        number = counts[c.path, c.op]
        counts[c.path, c.op] += 1
        sites.append(replace(c, id=f"{c.path}:{c.op}:{number}", last=c.location not in walk.followed))
    return sites


def _is_floating(v: Any) -> bool:
    return getattr(v.aval, "dtype", None) in FLOATS


def _unread(walk: _Walk) -> set[Location]:
    """The additions whose sum no contraction reads, nor another addition that one does."""
    unread = {c.location for c in walk.found if c.op == "add"}
    # Invariant: sites outside of `unread` are kept. It only shrinks, so the loop ends.
    while read := unread.intersection(frozenset().union(*(r for at, r in walk.reads.items() if at not in unread))):
        unread -= read
    return unread


def _jaxpr(walk: _Walk, jaxpr: Any, infos: list[Info], scope: Scope) -> list[Info]:
    inner, _ = layouts.open_jaxpr(jaxpr)
    constant = Info(True, None, frozenset())
    env: dict[Any, Info] = dict.fromkeys(inner.constvars, constant)
    env.update(zip(inner.invars, _identified(infos, (*scope.location, "in")), strict=True))

    def read(atom: Any) -> Info:
        return constant if layouts.is_literal(atom) else env[atom]

    # Invariant: `env` knows every variable made before this equation; two entries of one `value` are one and the same
    # array.
    for index, eqn in enumerate(inner.eqns):
        outs = _equation(walk, index, eqn, [read(v) for v in eqn.invars], scope)
        env.update(zip(eqn.outvars, _identified(outs, (*scope.location, index)), strict=True))
    return [read(v) for v in inner.outvars]


def _identified(infos: list[Info], place: Location) -> list[Info]:
    """The infos, each new value named by the place where it is made."""
    return [i._replace(value=(place, n)) if i.value is None else i for n, i in enumerate(infos)]


def _equation(walk: _Walk, index: int, eqn: Any, args: list[Info], scope: Scope) -> list[Info]:
    name = eqn.primitive.name
    adding = name == "add" and (walk.adds is None or id(eqn) in walk.adds) and is_addition(eqn, args)
    if name in OPS or name in LISTED_ONLY or adding:
        return _contraction(walk, index, eqn, args, scope)
    if name in layouts.INLINED or name in layouts.REMAT:
        outs = _jaxpr(walk, layouts.inlined_jaxpr(eqn), args, scope.enter(index, "call", eqn))
        return [_ruled(out, args) for out in outs] if name in layouts.CUSTOM else outs
    if name in CONTROL:
        return CONTROL[name](walk, index, eqn, args, scope)
    for sub, jaxpr in layouts.subjaxprs(eqn):
        inside = scope.enter(index, sub, eqn, blocked=scope.blocked or f"inside `{name}`, which is not rewritten")
        # How the primitive passes its operands to its jaxprs is not known, so nothing inside counts as a parameter.
        # Its sites are listed nevertheless, so that the user sees why they stay in float.
        invars = layouts.open_jaxpr(jaxpr)[0].invars
        _jaxpr(walk, jaxpr, [Info(False, None, frozenset())] * len(invars), inside)
    return [follow(eqn, args)] * len(eqn.outvars)


def _ruled(out: Info, args: list[Info]) -> Info:
    """The provenance of a result of a function with a custom derivative: a new value, even where it equals an input.

    A function that reads more than parameters returns no weight: only the call itself has the custom derivative.
    """
    if not all(a.known for a in args):
        return Info(False, None, out.upstream, sources=out.sources)
    return out._replace(origin=out.origin and replace(out.origin, perm=None), value=None)


def _contraction(walk: _Walk, index: int, eqn: Any, args: list[Info], scope: Scope) -> list[Info]:
    args = [
        Info(False, None, a.upstream, value=a.value, sources=a.sources) if repeats(eqn, args, side) else a
        for side, a in enumerate(args)
    ]
    name: str = eqn.primitive.name
    out, op = follow(eqn, args), OPS.get(name, name)
    # Indexing of data, which multiplies nothing, is not listed as a site.
    if op == "embedding" and args[0].origin is None:
        return [out]
    lhs, rhs = (
        # An addition takes the grid of what its operand repeats, so that a map and its upsampled copy have one.
        Operand(
            v.aval.shape,
            v.aval.dtype,
            a.origin if a.known else None,
            value=(a.repeated or a.value) if op == "add" else a.value,
        )
        for v, a in zip(eqn.invars[:2], args[:2], strict=True)
    )
    operands = (lhs, rhs)
    # A scan is a layer scan where a slice of a parameter meets data, not where slices make another parameter.
    if not all(a.known for a in args):
        walk.sliced.update(scan for o in operands if o.origin for scan in o.origin.scans)
    location, origin = (*scope.location, index), args[0].origin or args[1].origin
    walk.reads[location] = out.sources
    weighted = op != "embedding" and not out.known and origin is not None
    # The bodies of loops are walked until their provenance settles; only the last walk records, or sites would be
    # listed twice.
    if scope.record:
        blocked = scope.blocked or empty_operand(op, operands, walk.empty) or blocked_by(op, eqn, args, operands)
        path = site_path(clean_scope(f"{scope.names}/{eqn.source_info.name_stack}"), origin.path if origin else None)
        first = weighted and not out.upstream
        aval = eqn.outvars[0].aval
        walk.found.append(
            Contraction(
                id="",
                path=path,
                op=op,
                location=location,
                operands=operands,
                out_shape=aval.shape,
                out_dtype=aval.dtype,
                equation=eqn,
                scans=scope.scans,
                scan_lengths=scope.scan_lengths,
                trip_count=scope.trip_count,
                blocked=blocked,
                first=first,
                settled=scope.settled,
            )
        )
        if weighted:
            walk.followed.update(out.upstream)
        else:
            # A contraction without a weight is never the network's last layer.
            walk.followed.add(location)
    # Each site marks its direct predecessors as followed, so nothing further up needs to be remembered.
    upstream = frozenset([location]) if weighted else out.upstream
    return [out._replace(upstream=upstream, sources=made_by(op, location, out))]


def _anew(infos: list[Info]) -> list[Info]:
    """The infos inside a loop or branch, where equal values are not recognised across its border."""
    return [i._replace(value=None, repeated=None) for i in infos]


def _settle(body: Callable[[list[Info]], list[Info]], carry: list[Info]) -> list[Info]:
    """The provenance of a loop's carry, iterated until it does not change; a carried value is never a weight."""
    carry = [Info(False, None, c.upstream, sources=c.sources) for c in carry]
    while True:
        out = body(carry)
        # Invariant: the sets of sites only grow. There are finitely many sites, so the loop ends.
        merged = [
            Info(False, None, c.upstream | o.upstream, sources=c.sources | o.sources)
            for c, o in zip(carry, out, strict=True)
        ]
        if merged == carry:
            return carry
        carry = merged


def _scan(walk: _Walk, index: int, eqn: Any, args: list[Info], scope: Scope) -> list[Info]:
    s = layouts.scan_layout(eqn)
    consts, carry, xs = args[: s.consts], args[s.consts : s.consts + s.carry], args[s.consts + s.carry :]
    here: Location = (*scope.location, index)
    slices = [sliced(x, here) for x in xs]
    inside = scope.enter(index, "call", eqn, trip_count=scope.trip_count * s.length)

    def body(c: list[Info], inner: Scope) -> list[Info]:
        return _jaxpr(walk, s.body, _anew([*consts, *c, *slices]), inner)

    # Which scans slice weights is known only after this first walk, and decides what the second walk records.
    carry = _settle(lambda c: body(c, replace(inside, record=False))[: s.carry], carry)
    if here in walk.sliced:  # a layer scan; a scan over time may add a row of a parameter to each step
        inside = replace(inside, scans=(*scope.scans, here), scan_lengths=(*scope.scan_lengths, s.length))
    out = body(carry, inside)
    ys = [Info(False, None, o.upstream, sources=o.sources) for o in out[s.carry :]]
    return [*_settle(lambda c: out[: s.carry], carry), *ys]


def _while(walk: _Walk, index: int, eqn: Any, args: list[Info], scope: Scope) -> list[Info]:
    p = eqn.params
    n, m = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]

    def body(c: list[Info], record: bool) -> list[Info]:
        return _jaxpr(
            walk,
            p["body_jaxpr"],
            _anew([*args[n:m], *c]),
            scope.enter(index, "call", eqn, record=record and scope.record),
        )

    carry = _settle(lambda c: body(c, False), args[m:])
    why = "in the condition of a while loop, which can return no statistics"
    cond = scope.enter(index, "cond_jaxpr", eqn, blocked=scope.blocked or why)
    # The body comes after the condition, as sites are numbered in the order in which they run.
    _jaxpr(walk, p["cond_jaxpr"], [*args[:n], *carry], cond)
    body(carry, True)
    return carry


def _cond(walk: _Walk, index: int, eqn: Any, args: list[Info], scope: Scope) -> list[Info]:
    # No parameter and no input can change this choice.
    settled = scope.settled or (args[0].known and args[0].origin is None)
    outs = [
        _jaxpr(walk, branch, _anew(args[1:]), scope.enter(index, f"branches[{i}]", eqn, settled=settled))
        for i, branch in enumerate(eqn.params["branches"])
    ]
    # The result depends on the choice too: sites upstream of the index are upstream of every result.
    upstream = args[0].upstream
    return [
        Info(
            False,
            None,
            upstream.union(*(o.upstream for o in each)),
            sources=frozenset().union(*(o.sources for o in each)),
        )
        for each in zip(*outs, strict=True)
    ]


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}


def trace(fn: Callable[..., Any], args: Any) -> tuple[Any, Any]:
    """The jaxpr of `fn(*args)` (leaves of `args` may be abstract), and the tree structure of its result."""
    jaxpr, out = jax.make_jaxpr(fn, return_shape=True)(*args)
    return jaxpr, jax.tree.structure(out)
