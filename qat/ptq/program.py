"""A planned function as one flat list of equations, each of which reads and writes numbered values."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from qat.core.jaxpr import Location, Rewriting, bind, layouts
from qat.core.jaxpr.contraction import clean_scope
from qat.core.plan import Plan, SitePlan

Atom = Any
"""The number of a value, or a literal."""


@dataclass(frozen=True)
class Line:
    """An equation with the numbers of the values that it reads and writes; `names` is its scope, and `location` where
    it stands in the jaxpr."""

    eqn: Any
    location: Location
    names: str
    reads: tuple[Atom, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Flat:
    """The equations of a plan that depend on its inputs (`lines`), plain calls opened. `known` are those that depend on
    parameters and `consts` alone. Values are numbered: parameters first, then inputs; `shapes` and `sizes` (in bytes)
    are by number. `outs` are all results, also those that no input changes."""

    plan: Plan
    lines: tuple[Line, ...]
    known: tuple[Line, ...]
    consts: dict[int, Any]
    inputs: tuple[int, ...]
    outs: tuple[Atom, ...]
    shapes: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    @cached_property
    def results(self) -> tuple[int, ...]:
        """The results that the inputs change."""
        return tuple(v for v in values_of(self.outs) if v in self.written)

    @cached_property
    def sites(self) -> dict[int, SitePlan]:
        """The quantized sites among the lines, by line; those inside of a loop or branch are not."""
        quantized = self.plan.quantized
        return {i: quantized[one.location] for i, one in enumerate(self.lines) if one.location in quantized}

    @cached_property
    def written(self) -> dict[int, int]:
        """The line that writes a value; -1 for an input."""
        return {**dict.fromkeys(self.inputs, -1), **{v: i for i, one in enumerate(self.lines) for v in one.writes}}

    @cached_property
    def last_read(self) -> dict[int, int]:
        """The last line that reads a value; of a result, one behind all lines."""
        found = {v: i for i, one in enumerate(self.lines) for v in values_of(one.reads)}
        return {**found, **dict.fromkeys(self.results, len(self.lines))}

    def live(self, position: int) -> tuple[int, ...]:
        """The values written before the line `position`, inputs among them, that it or a later line reads."""
        return tuple(v for v, line in self.written.items() if line < position <= self.last_read.get(v, -2))

    def constants(self, leaves: list[Any]) -> dict[int, Any]:
        """Every value that depends on parameters alone, by number."""

        def run(leaves: list[Any]) -> dict[int, Any]:
            env = {**dict(enumerate(leaves)), **self.consts}
            for one in self.known:
                env.update(zip(one.writes, bind(one.eqn, read(env, one.reads)), strict=True))
            wanted = {v for one in self.lines for v in values_of(one.reads)} | set(values_of(self.outs))
            return {v: jnp.asarray(x) for v, x in env.items() if v in wanted}

        return jax.jit(run)(leaves)


def values_of(atoms: Iterable[Atom]) -> list[int]:
    """The numbers of values among operands."""
    return [a for a in atoms if isinstance(a, int)]


def read(env: dict[int, Any], atoms: Iterable[Atom]) -> list[Any]:
    """The operands' values."""
    return [env[a] if isinstance(a, int) else a.val for a in atoms]


def flatten(plan: Plan) -> Flat:
    """The plan as lines. Calls that hold a quantized site are opened; loops and branches stay whole."""
    nests = Rewriting({at: s.contraction for at, s in plan.quantized.items()}, _none, {}).nests
    avals: list[Any] = []
    consts: dict[int, Any] = {}
    lines: list[Line] = []

    def new(var: Any) -> int:
        avals.append(var.aval)
        return len(avals) - 1

    def walk(jaxpr: Any, args: list[Atom] | None, at: Location, names: str) -> tuple[list[Atom], list[Atom]]:
        inner, values = layouts.open_jaxpr(jaxpr)
        env: dict[Any, Atom] = dict(zip(inner.invars, args or [new(v) for v in inner.invars], strict=True))
        start = list(env.values())
        for var, value in zip(inner.constvars, values, strict=True):
            env[var] = new(var)
            consts[env[var]] = value
        for index, eqn in enumerate(inner.eqns):
            operands: list[Atom] = [v if layouts.is_literal(v) else env[v] for v in eqn.invars]
            here, scope = (*at, index), f"{names}/{eqn.source_info.name_stack}"
            if here in nests and eqn.primitive.name in layouts.INLINED | layouts.REMAT:
                outs = walk(layouts.inlined_jaxpr(eqn), operands, (*here, "call"), scope)[1]
            else:
                outs = [new(v) for v in eqn.outvars]
                lines.append(Line(eqn, here, clean_scope(scope), tuple(operands), tuple(outs)))
            env.update(zip(eqn.outvars, outs, strict=True))
        return start, [v if layouts.is_literal(v) else env[v] for v in inner.outvars]

    start, results = walk(plan.jaxpr, None, (), "")
    inputs = tuple(start[len(plan.leaves) :])
    moving, known = _split(lines, inputs)
    written = {v for one in moving for v in one.writes} | set(inputs)
    kept = _alive(moving, [v for v in values_of(results) if v in written])
    shapes = tuple(tuple(getattr(aval, "shape", ())) for aval in avals)
    sizes = tuple(
        math.prod(shape) * getattr(aval.dtype, "itemsize", 4) for shape, aval in zip(shapes, avals, strict=True)
    )
    return Flat(plan, kept, known, consts, inputs, outs=tuple(results), shapes=shapes, sizes=sizes)


def _none(*_: Any) -> Any:
    raise AssertionError


def _split(lines: list[Line], inputs: tuple[int, ...]) -> tuple[list[Line], tuple[Line, ...]]:
    """The lines that depend on the inputs, and all others."""
    moving, known, reached = [], [], set(inputs)
    for one in lines:
        if reached.isdisjoint(values_of(one.reads)):
            known.append(one)
        else:
            moving.append(one)
            reached.update(one.writes)
    return moving, tuple(known)


def _alive(lines: list[Line], results: list[int]) -> tuple[Line, ...]:
    wanted, kept = set(results), []
    for one in reversed(lines):
        if not wanted.isdisjoint(one.writes):
            kept.append(one)
            wanted.update(values_of(one.reads))
    return tuple(reversed(kept))


def below(place: Location, at: Location) -> bool:
    """Whether a location is inside of the equation at another."""
    return len(place) > len(at) and place[: len(at)] == at
