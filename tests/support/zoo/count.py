"""Contractions present in a function, by a walk over its jaxpr that knows nothing of the library under test."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import core

CONTRACTIONS = ("dot_general", "conv_general_dilated", "lookup")
Origin = frozenset[str]  # which of "params" and "inputs" a value depends on
NOWHERE: Origin = frozenset()


def count(fn: Callable[..., Any], params: Any, *inputs: Any) -> Counter[str]:
    """How many equations of each kind `fn` has; those in a loop or a branch count once, in two calls twice.

    Kinds: `dot_general`, `conv_general_dilated`, `lookup` (gather from parameters at indices that depend on an
    input) and `constant_lookup` (gather from parameters at indices that do not).
    """
    closed = jax.make_jaxpr(fn)(params, *inputs)
    n = len(jax.tree.leaves(params))
    origins = [frozenset({"params" if i < n else "inputs"}) for i in range(len(closed.jaxpr.invars))]
    return _walk(closed.jaxpr, origins)[0]


def contractions(fn: Callable[..., Any], params: Any, *inputs: Any) -> int:
    """The number of contractions, constant lookups not among them."""
    found = count(fn, params, *inputs)
    return sum(found[kind] for kind in CONTRACTIONS)


def _walk(jaxpr: Any, origins: Sequence[Origin]) -> tuple[Counter[str], list[Origin]]:
    known: dict[Any, Origin] = dict(zip(jaxpr.invars, origins, strict=True))

    def origin(atom: Any) -> Origin:
        return NOWHERE if isinstance(atom, core.Literal) else known.get(atom, NOWHERE)

    found: Counter[str] = Counter()
    for eqn in jaxpr.eqns:
        inner, outs = _equation(eqn, [origin(v) for v in eqn.invars])
        found += inner
        known.update(zip(eqn.outvars, outs, strict=True))
    return found, [origin(v) for v in jaxpr.outvars]


def _equation(eqn: Any, ins: list[Origin]) -> tuple[Counter[str], list[Origin]]:
    name = eqn.primitive.name
    if name == "scan":
        return _scan(eqn, ins)
    if name == "while":
        return _while(eqn, ins)
    everywhere = [NOWHERE.union(*ins)] * len(eqn.outvars)
    if name in ("dot_general", "conv_general_dilated"):
        return Counter({name: 1}), everywhere
    if name == "gather":
        if ins[0] != {"params"}:
            return Counter(), everywhere
        return Counter({"lookup" if "inputs" in ins[1] else "constant_lookup": 1}), everywhere
    if name.startswith("scatter"):
        return Counter(), everywhere
    bodies = list(_bodies(eqn))
    if not bodies:
        return Counter(), everywhere
    found, outs = Counter(), [NOWHERE] * len(eqn.outvars)
    for body in bodies:
        inner, body_outs = _walk(body, ins[1:] if name == "cond" else ins)
        found, outs = found + inner, [a | b for a, b in zip(outs, body_outs, strict=True)]
    if name == "cond":
        outs = [out | ins[0] for out in outs]
    return found, outs


def _scan(eqn: Any, ins: list[Origin]) -> tuple[Counter[str], list[Origin]]:
    (body,) = _bodies(eqn)
    ranks = [len(v.aval.shape) for v in body.invars]
    stacked = sum(len(v.aval.shape) > rank for v, rank in zip(eqn.invars, ranks, strict=True))
    carried = sum(len(o.aval.shape) == len(v.aval.shape) for o, v in zip(eqn.outvars, body.outvars, strict=True))
    first = len(ins) - stacked - carried
    return _until_stable(body, ins, first, carried)


def _while(eqn: Any, ins: list[Origin]) -> tuple[Counter[str], list[Origin]]:
    cond_consts, body_consts = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = len(ins) - cond_consts - body_consts
    found, outs = _until_stable(_open(eqn.params["body_jaxpr"]), ins[cond_consts:], body_consts, carry)
    in_cond, trips = _walk(_open(eqn.params["cond_jaxpr"]), ins[:cond_consts] + outs)
    return found + in_cond, [out | trips[0] for out in outs]


def _until_stable(body: Any, ins: list[Origin], first: int, carried: int) -> tuple[Counter[str], list[Origin]]:
    while True:
        found, outs = _walk(body, ins)
        joined = [a | b for a, b in zip(ins[first : first + carried], outs[:carried], strict=True)]
        if joined == ins[first : first + carried]:
            return found, joined + outs[carried:]
        ins = [*ins[:first], *joined, *ins[first + carried :]]


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _bodies(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield _open(item)
