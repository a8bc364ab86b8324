"""Consecutive equations of a function as a program of their own: what they read, compute and hand on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from qat.core.jaxpr import Contraction, Location, Rewriting, bind, layouts
from qat.core.jaxpr.rewrite import CONTROL
from qat.core.operands import ActivationOperand, SiteOperand
from qat.core.plan import Plan, SitePlan
from qat.core.tensors import Weight
from qat.numerics import ANY_BITS
from qat.ptq.program import Atom, Flat, Line, below, read, values_of


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive lines with numbers and names of their own, so that those of equal layers are one program: equal where
    `key` is. Values are numbered: inputs first, then constants. `nested` holds the sites inside of loops and branches,
    which keep their names."""

    key: str
    lines: tuple[Line, ...]
    inputs: int
    constants: int
    outputs: tuple[int, ...]
    sites: dict[int, SitePlan]
    plan: Plan
    nested: dict[Location, SitePlan]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segment) and self.key == other.key

    def run(self, inputs: Iterable[Any], constants: Iterable[Any], site: Any, inside: Any) -> tuple[Any, ...]:
        """Outputs, each line evaluated as it stands; a site by `site(SitePlan, arrays)`, and one inside of a loop or
        branch by `inside(SitePlan, arrays, operands, scope)`. `inside` comes with the values
        of operands, by key; None: in float."""
        env = dict(enumerate((*inputs, *constants)))
        for i, one in enumerate(self.lines):
            arrays = read(env, one.reads)
            if site is not None and i in self.sites:
                outs = [site(self.sites[i], arrays)]
            elif inside is not None and one.eqn.primitive.name in CONTROL and self._holds(one.location):
                outs = self._rewritten(one, arrays, *inside)
            else:
                outs = bind(one.eqn, arrays)
            env.update(zip(one.writes, outs, strict=True))
        return tuple(env[v] for v in self.outputs)

    def _holds(self, at: Location) -> bool:
        return any(place[: len(at)] == at for place in self.nested)

    def _rewritten(self, one: Line, arrays: list[Any], handler: Any, operands: dict[str, Any]) -> list[Any]:
        def handle(c: Contraction, eqn: Any, arrays: list[Any], operands: Any, carried: Any, scope: Any):
            return handler(self.nested[c.location], arrays, operands, scope), carried

        sites = {at: s.contraction for at, s in self.nested.items()}
        rewriting = Rewriting(sites, handle, self.plan.slices)
        return CONTROL[one.eqn.primitive.name](rewriting, one.eqn, arrays, one.location, operands, {})[0]


@dataclass(frozen=True)
class Cut:
    """A segment at its place: the values that it reads and writes there, and the key in the state by its own name of
    each tensor."""

    segment: Segment
    inputs: tuple[int, ...]
    constants: tuple[int, ...]
    outputs: tuple[int, ...]
    keys: dict[str, str]


def cut(flat: Flat, start: int, stop: int) -> Cut:
    """The lines from `start` up to `stop`; its outputs are what later lines or the function's results need."""
    lines = flat.lines[start:stop]
    written = {v for one in lines for v in one.writes}
    outside = list(dict.fromkeys(v for one in lines for v in values_of(one.reads) if v not in written))
    inputs = tuple(v for v in outside if v in flat.written)
    constants = tuple(v for v in outside if v not in flat.written)
    outputs = tuple(v for one in lines for v in one.writes if flat.last_read.get(v, -1) >= stop)
    numbers = {v: i for i, v in enumerate((*inputs, *constants))}
    for one in lines:
        numbers.update({v: len(numbers) + i for i, v in enumerate(one.writes)})

    def own(atoms: tuple[Atom, ...]) -> tuple[Atom, ...]:
        return tuple(numbers[a] if isinstance(a, int) else a for a in atoms)

    local = tuple(replace(one, reads=own(one.reads), writes=own(one.writes)) for one in lines)
    sites, weights, keys = _named(flat, {i - start: s for i, s in flat.sites.items() if start <= i < stop})
    nested = {at: s for at, s in flat.plan.quantized.items() if any(below(at, one.location) for one in lines)}
    keys |= {key: key for s in nested.values() for key in s.keys}
    weights |= {key: flat.plan.weights[key] for key in keys if key in flat.plan.weights}
    segment = Segment(
        _key(flat, local, (*inputs, *constants), own(outputs), sites, weights, nested),
        local,
        len(inputs),
        len(constants),
        own(outputs),
        sites,
        replace(flat.plan, sites=tuple(nested.values()), weights=weights),
        nested,
    )
    return Cut(segment, inputs, constants, outputs, keys)


def _named(flat: Flat, sites: dict[int, SitePlan]) -> tuple[dict[int, SitePlan], dict[str, Weight], dict[str, str]]:
    """The sites with names of tensors that do not say where they stand, their weights, and the keys by these names."""
    names: dict[str, str] = {}
    for s in sites.values():
        for key in s.keys:
            names.setdefault(key, f"tensor {len(names)}")

    def renamed(operand: SiteOperand | None) -> SiteOperand | None:
        if isinstance(operand, ActivationOperand):
            return ActivationOperand(names[operand.key], replace(operand.spec, bits=ANY_BITS, observer="minmax"))
        return operand and replace(operand, key=names[operand.key])

    local = {i: replace(s, operands=tuple(map(renamed, s.operands))) for i, s in sites.items()}
    weights = {name: flat.plan.weights[key] for key, name in names.items() if key in flat.plan.weights}
    return local, weights, {name: key for key, name in names.items()}


def _key(
    flat: Flat,
    lines: tuple[Line, ...],
    outside: tuple[int, ...],
    outputs: tuple[int, ...],
    sites: dict[int, SitePlan],
    weights: dict[str, Weight],
    nested: dict[Location, SitePlan],
) -> str:
    """Text that two segments share only where they compute the same."""

    def atom(a: Atom) -> str:
        return str(a) if isinstance(a, int) else f"{a.val!r}:{a.aval}"

    text = [
        str([flat.shapes[v] for v in outside]),
        str(outputs),
        str((flat.plan.leaves, list(nested)) if nested else 0),
    ]
    for one in lines:
        avals = [str(v.aval) for v in (*one.eqn.invars, *one.eqn.outvars)]
        held = [id(value) for value in _held(one.eqn)]
        text.append(f"{one.eqn.primitive}{one.eqn.params}{[*map(atom, one.reads)]}{one.writes}{avals}{held}")
    text += [f"{i}{s.operands}" for i, s in sites.items()]
    text += [f"{name}{w.shape}{w.dtype}{w.channels}{w.groups}{w.spec.grid}" for name, w in weights.items()]
    return re.sub(r" at 0x[0-9a-f]+", "", "\n".join(text))


def _held(eqn: Any) -> list[Any]:
    """The constants inside of an equation's jaxprs, which their text does not show."""
    found = []
    for _, sub in layouts.subjaxprs(eqn):
        inner, consts = layouts.open_jaxpr(sub)
        found += [*consts, *(value for one in inner.eqns for value in _held(one))]
    return found
