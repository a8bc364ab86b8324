"""Provenance of values: which parameter leaf each comes from, followed equation by equation."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from qat.core.jaxpr.contraction import Location, Origin

RESHAPES = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim"}
PLACINGS = {
    "pvary",
    "reshard",
    "sharding_constraint",
    "mesh_cast",
    "copy",
    "copy_p",
}  # the same array under another sharding
FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64)


class Info(NamedTuple):
    """The provenance of a value: whether it depends on parameters and constants alone (`known`), on which leaf, and
    which sites lie `upstream` of it.

    A `broadcast` value is repeated along new axes (learned queries, one copy for each example): its shape may follow
    the batch, so it is no weight; of data only the repeated array itself is `broadcast`. `value` is equal for the same
    array, also across calls and equal casts, but not into a loop or branch. `scans` are the scans that slice a value
    made of constants alone. `sources` are the nearest contractions, look-ups and additions that floating data come
    from, and inputs of the function; `repeated` is the `value` that data reshape or repeat, whose range is theirs.
    """

    known: bool
    origin: Origin | None
    upstream: frozenset[Location]
    broadcast: bool = False
    value: Any = None
    scans: tuple[Location, ...] = ()
    sources: frozenset[Location] = frozenset()
    repeated: Any = None


def follow(eqn: Any, args: list[Info]) -> Info:
    """The provenance of an ordinary equation's result."""
    value = _same_value(eqn, args)
    upstream = frozenset().union(*(a.upstream for a in args))
    # One operand that is data makes the result data. An effect makes it data as well: its value may not be the same
    # next time.
    if not all(a.known for a in args) or eqn.effects:
        # Masks and indices tell which values are taken; they are no values themselves.
        floats = eqn.outvars and getattr(eqn.outvars[0].aval, "dtype", None) in FLOATS
        sources = frozenset().union(*(a.sources for a in args)) if floats else frozenset()
        repeated = args[0].repeated or args[0].value if eqn.primitive.name in RESHAPES else None
        resized = _resizes(eqn)
        return Info(False, None, upstream, broadcast=resized, value=value, sources=sources, repeated=repeated)
    origins = [(v.aval.size, a.origin) for v, a in zip(eqn.invars, args, strict=True) if a.origin is not None]
    scans = tuple(dict.fromkeys(scan for a in args for scan in (a.origin.scans if a.origin else a.scans)))
    if not origins:
        return Info(True, None, upstream, value=value, scans=scans)
    # The largest leaf stands for what was made of several (a kernel with its mask or norm): the smaller ones modify
    # it.
    origin = max(origins, key=lambda o: o[0])[1]
    moved = _moved(eqn, origin) if len(args) == 1 else replace(origin, perm=None, scans=scans)
    return Info(True, moved, upstream, broadcast=_is_broadcast(eqn, args), value=value)


def _same_value(eqn: Any, args: list[Info]) -> Any:
    """The name of a value that is an earlier one reshaped (as `jnp.matmul` does at batch size one) or cast once more
    to the same dtype; None for a new value."""
    name = eqn.primitive.name
    if name == "convert_element_type":
        # Two casts of one array to one dtype are equal arrays, though jax traced two equations.
        return ("cast", args[0].value, str(eqn.params["new_dtype"]))
    if name in PLACINGS:
        return args[0].value
    return args[0].value if name in RESHAPES and not _resizes(eqn) else None


def _resizes(eqn: Any) -> bool:
    """Whether an equation repeats its operand along an axis."""
    return eqn.primitive.name == "broadcast_in_dim" and eqn.outvars[0].aval.size != eqn.invars[0].aval.size


def _moved(eqn: Any, origin: Origin) -> Origin:
    name = eqn.primitive.name
    if origin.perm is not None and name == "transpose":
        return replace(origin, perm=tuple(origin.perm[i] for i in eqn.params["permutation"]))
    if name in PLACINGS:
        return origin
    dtype = eqn.outvars[0].aval.dtype
    # Only the first cast to a float: a second one may have lost digits in the first, and an integer dtype certainly
    # would.
    if origin.perm is not None and name == "convert_element_type" and not origin.cast and dtype in FLOATS:
        return replace(origin, dtype=dtype, cast=True)
    # Anything else computes a new array, which transposes and a single cast cannot make from the leaf.
    return replace(origin, perm=None)


def _is_broadcast(eqn: Any, args: list[Info]) -> bool:
    """Whether a value made of parameters is repeated along an axis; one combined elementwise with a whole parameter is
    not.

    An equation that repeats its operand just once counts too, so that a batch of one gives the same answer.
    """
    shapes, out = [getattr(v.aval, "shape", ()) for v in eqn.invars], eqn.outvars[0].aval
    broadcast = [a.broadcast for a in args if a.origin is not None]
    name = eqn.primitive.name
    if name == "tile" or (name in ("stack", "concatenate") and len({id(v) for v in eqn.invars}) == 1):
        return True
    if name == "broadcast_in_dim":
        # A new leading axis is where a batch goes: at batch size one it repeats nothing yet, but the next batch
        # would.
        leading = len(out.shape) > len(shapes[0]) and 0 not in eqn.params["broadcast_dimensions"]
        return out.size > eqn.invars[0].aval.size or leading or any(broadcast)
    # Combined elementwise with a parameter of the result's full shape, a repeated value no longer decides that shape;
    # without such a parameter the result's shape may still follow the batch.
    if len(args) > 1 and all(_broadcasts(shape, out.shape) for shape in shapes):
        whole = [
            a.broadcast for a, shape in zip(args, shapes, strict=True) if a.origin is not None and shape == out.shape
        ]
        return all(whole) if whole else True
    return any(broadcast)


def _broadcasts(shape: tuple[int, ...], out: tuple[int, ...]) -> bool:
    return not shape or (len(shape) == len(out) and all(a in (1, b) for a, b in zip(shape, out, strict=True)))


def repeats(eqn: Any, args: list[Info], side: int) -> bool:
    """Whether a contraction's operand holds copies of a parameter, and so is no weight.

    So does an operand with a leading axis of length one that is not contracted, where the other operand is a weight as
    well: a learned query with a batch axis, at batch size one.
    """
    if args[side].broadcast or eqn.primitive.name != "dot_general" or not all(a.known and a.origin for a in args):
        return args[side].broadcast
    shape, (summed, _) = eqn.invars[side].aval.shape, eqn.params["dimension_numbers"]
    return len(shape) > 1 and shape[0] == 1 and 0 not in summed[side]


def sliced(info: Info, scan: Location) -> Info:
    """The provenance of one slice that a scan takes along the leading axis."""
    if info.origin is None:
        return info._replace(scans=(*info.scans, scan)) if info.known else info
    return info._replace(origin=_slice(info.origin, scan))


def _slice(origin: Origin, scan: Location) -> Origin:
    """The origin of one slice; a leaf already transposed cannot be followed further."""
    # A scan slices the leading axis of its operand. That is the leaf's own leading axis, along which layers are
    # stacked, only where the leaf was not transposed before.
    plain = origin.perm is not None and origin.perm == tuple(range(len(origin.perm)))
    return replace(
        origin, perm=tuple(range(len(origin.perm) - 1)) if plain and origin.perm else None, scans=(*origin.scans, scan)
    )
