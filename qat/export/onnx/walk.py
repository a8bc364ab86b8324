"""The walk over a traced function: what parameters alone decide is computed, the rest is written into the graph."""

from typing import Any

import jax
import numpy as np

from qat.core.jaxpr import Location, layouts
from qat.export.onnx.context import LOWERINGS, Context, UnsupportedError
from qat.export.onnx.control import CONTROL
from qat.export.onnx.dims import is_static
from qat.export.onnx.elementwise import ELEMENTWISE
from qat.export.onnx.sites import write_site
from qat.export.onnx.values import Value, constant, dropped, tensor

SILENT = {"debug_callback", "debug_print"}


def run(ctx: Context, jaxpr: Any, args: list[Value], at: Location) -> list[Value]:
    """The values of a jaxpr's results, its equations written into the graph."""
    inner, consts = layouts.open_jaxpr(jaxpr)
    env: dict[Any, Value] = {v: constant(c) for v, c in zip(inner.constvars, consts, strict=True)}
    env.update(zip(inner.invars, args, strict=True))

    def read(atom: Any) -> Value:
        return constant(np.asarray(atom.val, atom.aval.dtype)) if layouts.is_literal(atom) else env[atom]

    # The index counts dead equations too: it is the place by which the plan knows a site.
    alive = _alive(inner)
    for index, eqn in enumerate(inner.eqns):
        if index in alive:
            outs = _equation(ctx, eqn, [read(v) for v in eqn.invars], (*at, index))
            env.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in inner.outvars]


def _alive(inner: Any) -> set[int]:
    """The equations that the results depend on."""
    wanted = {v for v in inner.outvars if not layouts.is_literal(v)}
    alive = set()
    for index in reversed(range(len(inner.eqns))):
        eqn = inner.eqns[index]
        if not wanted.isdisjoint(eqn.outvars) or eqn.effects:
            alive.add(index)
            wanted.update(v for v in eqn.invars if not layouts.is_literal(v))
    return alive


def _equation(ctx: Context, eqn: Any, args: list[Value], at: Location) -> list[Value]:
    name = eqn.primitive.name
    if ctx.plan is not None and at in ctx.plan.quantized:
        return [write_site(ctx, ctx.plan.quantized[at], eqn, args)]
    if name in SILENT:
        ctx.graph.note(f"`{name}` is left out: ONNX runs no Python.")
        return []
    if name in layouts.INLINED or name in layouts.REMAT:
        return ctx.run(ctx, layouts.inlined_jaxpr(eqn), args, (*at, "call"))
    computed = _computed(eqn, args)
    if computed is not None:
        return computed
    try:
        if name in CONTROL:
            return CONTROL[name](ctx, eqn, args, at)
        if any(not _is_plain(v) for v in (*eqn.invars, *eqn.outvars)):
            raise UnsupportedError("of random keys")
        if any(a.dropped for a in args):
            return [dropped(v.aval) for v in eqn.outvars]
        if name not in LOWERINGS:
            raise UnsupportedError("")
        outs = LOWERINGS[name](ctx, eqn, args)
    except UnsupportedError as error:
        said = f"{name} ({error})" if str(error) else name
        ctx.missing[said] = ctx.missing.get(said, 0) + 1
        # The walk goes on, so that one error names all that is missing.
        return [tensor("missing", v.aval.shape, _dtype(v)) for v in eqn.outvars]
    return outs if isinstance(outs, list) else [outs]


def _is_plain(v: Any) -> bool:
    """Whether a variable is an array of numbers, rather than of random keys."""
    return isinstance(getattr(v.aval, "dtype", None), np.dtype)


def _dtype(v: Any) -> Any:
    return v.aval.dtype if _is_plain(v) else np.float32


def _computed(eqn: Any, args: list[Value]) -> list[Value] | None:
    """The results where constants alone decide them, else None."""
    if eqn.effects or not all(a.known for a in args):
        return None
    if not all(_is_plain(v) for v in (*eqn.invars, *eqn.outvars)):
        return None
    if eqn.primitive.name in ELEMENTWISE and args:
        short = [a.constant for a in args if a.constant is not None]
        shape = np.broadcast_shapes(*(x.shape for x in short))
        arrays = [np.broadcast_to(x, shape) for x in short]
        return [constant(out, v.aval.shape) for out, v in zip(_bound(eqn, arrays), eqn.outvars, strict=True)]
    if not all(is_static(getattr(v.aval, "shape", ())) for v in (*eqn.invars, *eqn.outvars)):
        return None
    if eqn.primitive.name in ("broadcast_in_dim", "transpose", "iota"):
        return None  # their lowerings keep constants short
    return [constant(out) for out in _bound(eqn, [a.array() for a in args])]


def _bound(eqn: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    with jax.default_device(jax.devices("cpu")[0]):
        typed = [jax.numpy.asarray(x, v.aval.dtype) for x, v in zip(arrays, eqn.invars, strict=True)]
        return [np.asarray(out) for out in layouts.bind(eqn, typed)]
