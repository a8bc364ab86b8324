"""Contractions of concatenated arrays, found and rewritten as one contraction for each part.

`concatenate([a, b]) @ w` is `a @ w[:n] + b @ w[n:]` where the joined axis is summed, and the products joined again
where it is not. So every part is an operand of its own.
"""

from collections.abc import Collection, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax

from qat.core.jaxpr import layouts


@dataclass(frozen=True)
class Joined:
    """A contraction's operand (`side`) that joins `parts` along `axis`, and the axis of the other operand that meets
    it, or else that of the result."""

    side: int
    parts: tuple[Any, ...]
    axis: int
    _: KW_ONLY
    summed_with: int | None
    kept_as: int | None


def joined(jaxpr: Any) -> dict[int, Joined]:
    """The contractions in `jaxpr`, or in one inside it, that can be rewritten by parts; keyed by the identity of the
    equation.
    """
    inner, _ = layouts.open_jaxpr(jaxpr)
    # Variables belong to one jaxpr: an array that was joined outside and passed in is an operand like any other here.
    makers = {v: eqn for eqn in inner.eqns for v in eqn.outvars}
    # Identities of equations suffice, since the caller keeps this jaxpr alive and rewrites it.
    found = {id(eqn): one for eqn in inner.eqns if (one := _joined(eqn, makers))}
    for eqn in inner.eqns:
        for _, sub in layouts.subjaxprs(eqn):
            found |= joined(sub)
    return found


def _joined(eqn: Any, makers: dict[Any, Any]) -> Joined | None:
    if eqn.primitive.name not in ("dot_general", "conv_general_dilated"):
        return None
    # The first side that can be split is taken; the other one is then an operand of every part.
    for side, v in enumerate(eqn.invars[:2]):
        maker = None if layouts.is_literal(v) else makers.get(v)
        if maker is None or maker.primitive.name != "concatenate":
            continue
        parts = tuple(_flat(v, maker.params["dimension"], makers))
        # Joining with zeros is padding, which is one tensor with one range, rather than two tensors side by side.
        constant = any(layouts.is_literal(p) or _is_constant(makers.get(p)) for p in parts)
        place = _meets(eqn, side, maker.params["dimension"])
        if place is not None and not constant:
            summed_with, kept_as = place
            return Joined(side, parts, maker.params["dimension"], summed_with=summed_with, kept_as=kept_as)
    return None


def _flat(v: Any, axis: int, makers: dict[Any, Any]) -> Iterator[Any]:
    """The parts of a joined array; a part that is itself joined along the same axis is replaced by its parts."""
    maker = None if layouts.is_literal(v) else makers.get(v)
    if maker is None or maker.primitive.name != "concatenate" or maker.params["dimension"] != axis:
        yield v
        return
    for part in maker.invars:
        yield from _flat(part, axis, makers)


def _is_constant(maker: Any) -> bool:
    """Whether a value is made of literals alone, like the zeros of padding."""
    return maker is not None and all(layouts.is_literal(v) for v in maker.invars)


def _meets(eqn: Any, side: int, axis: int) -> tuple[int | None, int | None] | None:
    """Find the axis of the other operand that meets `axis`, or else the axis of the result that it becomes; None where
    there is neither.
    """
    if eqn.primitive.name == "dot_general":
        summed, batch = eqn.params["dimension_numbers"]
        # A batch axis would have to be cut on both sides: the contraction stays whole.
        if axis in batch[side]:
            return None
        if axis in summed[side]:
            return summed[1 - side][list(summed[side]).index(axis)], None
        # Results have batch axes first, then the free axes of the left side, then those of the right.
        free = [
            (s, i)
            for s in (0, 1)
            for i in range(len(eqn.invars[s].aval.shape))
            if i not in summed[s] and i not in batch[s]
        ]
        return None, len(batch[0]) + free.index((side, axis))
    numbers = eqn.params["dimension_numbers"]
    # With groups of channels a part may end inside a group. A joined kernel is left whole.
    if side != 0 or eqn.params["feature_group_count"] != 1 or eqn.params["batch_group_count"] != 1:
        return None
    if axis == numbers.lhs_spec[1]:
        return numbers.rhs_spec[1], None
    return (None, numbers.out_spec[0]) if axis == numbers.lhs_spec[0] else None


def by_parts(jaxpr: Any, chosen: Collection[int]) -> Any:
    """`jaxpr` with the chosen equations (identities that `joined` gives) rewritten."""
    found = {key: one for key, one in joined(jaxpr).items() if key in chosen}
    return _by_parts(jaxpr, found) if found else jaxpr


def _by_parts(jaxpr: Any, found: dict[int, Joined]) -> Any:
    eqns = []
    # Invariant: one equation in, one equation out, with the same result variables. So every other equation keeps its
    # index, which is its location, and no variable is renamed.
    for eqn in layouts.open_jaxpr(jaxpr)[0].eqns:
        if id(eqn) in found:
            eqns.append(_rewritten(eqn, found[id(eqn)]))
        elif any(True for _ in layouts.subjaxprs(eqn)):
            params = {name: _inside(value, found) for name, value in eqn.params.items()}
            eqns.append(eqn.replace(params=params))
        else:
            eqns.append(eqn)
    return layouts.with_equations(jaxpr, eqns)


def _inside(value: Any, found: dict[int, Joined]) -> Any:
    """An equation's parameter, its jaxprs rewritten."""
    if layouts.is_jaxpr(value):
        return _by_parts(value, found)
    if isinstance(value, tuple | list) and any(layouts.is_jaxpr(v) for v in value):
        return type(value)(_inside(v, found) for v in value)
    return value


def _rewritten(eqn: Any, one: Joined) -> Any:
    """One call of the contractions of all parts, in the equation's place and under its names."""

    def contract(other: Any, *parts: Any) -> Any:
        results, start = [], 0
        # Invariant: `start` is where the part begins on the joined axis, and `results` holds a product for each one
        # before.
        for part in parts:
            end = start + part.shape[one.axis]
            met = other if one.summed_with is None else jax.lax.slice_in_dim(other, start, end, axis=one.summed_with)
            results += layouts.bind(eqn, [met, part] if one.side else [part, met])
            start = end
        if one.kept_as is not None:
            return jax.lax.concatenate(results, one.kept_as)
        # Not `sum`, whose start of 0 would add an equation.
        total = results[0]
        for result in results[1:]:
            total = total + result
        return total

    operands = [eqn.invars[1 - one.side], *one.parts]
    # Under `jit` the products become one call, the single equation that takes the place of the old one.
    call = jax.make_jaxpr(jax.jit(contract))(*(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in operands))
    (made,) = layouts.open_jaxpr(call)[0].eqns
    return made.replace(invars=operands, outvars=eqn.outvars, source_info=eqn.source_info)
