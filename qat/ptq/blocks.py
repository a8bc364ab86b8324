"""Parts of a function that are reconstructed as one: single layers, and blocks of layers found by the module path."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qat.core.jaxpr import layouts
from qat.core.operands import WeightOperand
from qat.core.plan import Plan, SitePlan
from qat.ptq.program import Flat, Line, below, values_of

INDEXED = re.compile(r"(?:^|[._-]|(?<=[A-Za-z]))\d+(?:[._-]\d+)*$")
"""The last part of a name such as `layer_0`, `Block3`, `stage_1_0` or `7`."""


@dataclass(frozen=True)
class Unit:
    """Lines `start` up to `stop` that are reconstructed together, named `path`, and the keys of the weights to round
    there."""

    path: str
    start: int
    stop: int
    weights: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """The units of a function in their order, and by site why others are left as they are."""

    units: tuple[Unit, ...]
    left: dict[str, str] = field(default_factory=dict)


def reason_left(plan: Plan, site: SitePlan, flat: Flat) -> str | None:
    """Why a site's weight cannot be rounded by the results of its site, or None. Sites without a quantized weight give
    the empty text."""
    key = next((operand.key for operand in site.operands if isinstance(operand, WeightOperand)), None)
    if key is None:
        return ""
    w, c = plan.weights[key], site.contraction
    if c.op == "embedding":
        return "a look-up, whose rows are best rounded to the nearest as they are"
    if w.leaf is None:
        return "its weight is computed from parameters, and no parameter can be put on the grid"
    if all(s is not site for s in flat.sites.values()):
        inside = any(below(c.location, one.location) for one in flat.lines)
        return "inside a loop or branch, which is not cut" if inside else "its result is not read"
    if w.spec.dynamic:
        return "its weight has a dynamic range, which would move with the rounding"
    readers = [o.origin for s in plan.sites for o in s.contraction.operands if o.origin and o.origin.leaf == w.leaf]
    if len(readers) > 1:
        return f"its weight is used at {len(readers)} sites"
    return None


def _reasons(flat: Flat) -> dict[str, str]:
    found = {s.contraction.id: reason_left(flat.plan, s, flat) for s in flat.plan.quantized.values()}
    return {name: reason for name, reason in found.items() if reason is not None}


def _weights(flat: Flat, start: int, stop: int, left: dict[str, str]) -> tuple[str, ...]:
    sites = [s for i, s in flat.sites.items() if start <= i < stop and s.contraction.id not in left]
    return tuple(key for s in sites for key in s.keys if key in flat.plan.weights)


def layers(flat: Flat, cuttable: Any, relu: bool) -> Found:
    """A unit for each site with a weight, with the ReLU that follows it (normalization between included) where `relu`
    says so. `cuttable(start, stop)` says whether all values between lines are one a example there."""
    left, units = _reasons(flat), []
    for i, site in flat.sites.items():
        if site.contraction.id in left:
            continue
        stop = (_behind_relu(flat, i) if relu else None) or i + 1
        if not cuttable(i, stop):
            stop = i + 1
        if cuttable(i, stop):
            units.append(Unit(site.contraction.path, i, stop, _weights(flat, i, stop, left)))
        else:
            left[site.contraction.id] = NOT_CUT
    return Found(tuple(units), _told(left))


NOT_CUT = "what it reads or gives has no leading axis of examples"


def _told(left: dict[str, str]) -> dict[str, str]:
    return {name: reason for name, reason in left.items() if reason}


def _behind_relu(flat: Flat, start: int) -> int | None:
    """The line behind the ReLU that the result of line `start` goes through alone, elementwise; None where there is
    none."""
    value, shape = flat.lines[start].writes[0], flat.shapes[flat.lines[start].writes[0]]
    for i in range(start + 1, len(flat.lines)):
        one = flat.lines[i]
        if value not in values_of(one.reads):
            if i in flat.sites:
                return None
            continue
        alone = flat.last_read.get(value) == i and i not in flat.sites and len(one.writes) == 1
        others = [v for v in values_of(one.reads) if v != value and v in flat.written]
        if not alone or others or flat.shapes[one.writes[0]] != shape:
            return None
        if is_relu(one):
            return i + 1
        value = one.writes[0]
    return None


def is_relu(one: Line) -> bool:
    """Whether an equation of one array is max(x, 0), itself or the call of a function that is."""
    eqn = one.eqn
    while eqn.primitive.name in layouts.INLINED:
        inner, _ = layouts.open_jaxpr(layouts.inlined_jaxpr(eqn))
        if len(inner.eqns) != 1 or len(inner.outvars) != 1:
            return False
        eqn = inner.eqns[0]
    literals: list[Any] = [v for v in eqn.invars if layouts.is_literal(v)]
    return eqn.primitive.name == "max" and len(literals) == 1 and np.ndim(literals[0].val) == 0 == literals[0].val


def block_of(parts: tuple[str, ...], pattern: str | None) -> str | None:
    """The block of a site, of whose path `parts` are those that not all sites share: up to the first that ends in a
    number, else all but the last. With a pattern up to the end of what it finds in the path, None where nothing is."""
    if pattern is not None:
        path = "/".join(parts)
        found = re.search(pattern, path)
        return path[: found.end()] if found else None
    numbered = next((i for i, part in enumerate(parts) if INDEXED.search(part)), None)
    return "/".join(parts[: max(len(parts) - 1, 1) if numbered is None else numbered + 1])


def _shared(paths: list[tuple[str, ...]]) -> int:
    """How many first parts all paths share."""
    columns = list(zip(*paths, strict=False))
    return next((i for i, parts in enumerate(columns) if len(set(parts)) > 1), len(columns))


def _block_names(paths: dict[int, str], pattern: str | None) -> dict[int, str | None]:
    """The block of each path; a block inside of another is part of it."""
    split = {i: tuple(path.split("/")) for i, path in paths.items()}
    several = [parts for parts in split.values() if len(parts) > 1]
    shared = 0 if pattern is not None or not several else _shared([parts[:-1] for parts in several])
    root = several[0][:shared] if several else ()
    rest = {i: parts[shared:] if parts[:shared] == root else parts for i, parts in split.items()}
    found = {i: block_of(parts, pattern) for i, parts in rest.items()}
    names = {name for name in found.values() if name is not None}

    def whole(i: int, name: str) -> str:
        outermost = min((other for other in names if f"{name}/".startswith(f"{other}/")), key=len)
        return "/".join((*split[i][: len(split[i]) - len(rest[i])], outermost))

    return {i: None if name is None else whole(i, name) for i, name in found.items()}


def blocks(flat: Flat, cuttable: Any, pattern: str | None) -> Found:
    """Units of all the lines of a module each; those whose lines lie between each other are one. Sites of no block, and
    all of a block that has no leading axis of examples at its ends, are left."""
    left, spans = _reasons(flat), []
    usable = {i: s.contraction for i, s in flat.sites.items() if s.contraction.id not in left}
    names = _block_names({i: c.path for i, c in usable.items()}, pattern)
    for i, name in names.items():
        if name is None:
            left[usable[i].id] = f"its path is of no block {pattern!r}"
    for name in dict.fromkeys(name for name in names.values() if name is not None):
        own = [i for i, block in names.items() if block == name]
        named = [i for i, one in enumerate(flat.lines) if f"/{name}/" in f"/{one.names}/"]
        inside = named if set(own) <= set(named) else own
        spans.append((inside[0], inside[-1] + 1, name))
    units = []
    for start, stop, name in _apart(sorted(spans)):
        weights = _weights(flat, start, stop, left)
        if weights and cuttable(start, stop):
            units.append(Unit(name, start, stop, weights))
        elif weights:
            ids = [s.contraction.id for i, s in flat.sites.items() if start <= i < stop]
            left.update({one: NOT_CUT for one in ids if one not in left})
    return Found(tuple(units), _told(left))


def _apart(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Spans that do not overlap: those that do, joined."""
    joined: list[tuple[int, int, str]] = []
    for start, stop, name in spans:
        if joined and start < joined[-1][1]:
            before = joined.pop()
            joined.append((before[0], max(before[1], stop), f"{before[2]} + {name}"))
        else:
            joined.append((start, stop, name))
    return joined


def check_pattern(pattern: str | None) -> None:
    """Raise `ValueError` for what is no regular expression."""
    try:
        re.compile(pattern or "")
    except (re.error, TypeError) as error:
        raise ValueError(f"`pattern` must be a regular expression on paths, got {pattern!r}: {error}.") from None
