"""Constants of a function computed before the converter sees it, which fuses a bias only where it is one already."""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer

from qat.core.jaxpr import bind, evaluate, layouts

COMPOSITE = "composite"
BARRIER = "optimization_barrier"  # fences off a compiler that is not the one here, and keeps it from fusing


def computed(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` with all that does not depend on its inputs computed, but for what would take more space than it is made of,
    such as a bias repeated along an image."""

    def inner(*inputs: Any) -> Any:
        jaxpr, out = jax.make_jaxpr(fn, return_shape=True)(*inputs)
        found = evaluate(jaxpr, jax.tree.leaves(inputs), _equation)
        return jax.tree.unflatten(jax.tree.structure(out), found)

    return inner


def _equation(_: int, eqn: Any, args: list[Any]) -> list[Any]:
    if eqn.primitive.name in layouts.INLINED:
        return evaluate(layouts.inlined_jaxpr(eqn), args, _equation)
    if eqn.primitive.name == BARRIER:
        return args
    constant = bool(args) and not any(isinstance(x, Tracer) for x in args)
    if not constant or eqn.primitive.name == COMPOSITE or eqn.effects or _grows(eqn):
        return bind(eqn, args)
    with jax.ensure_compile_time_eval():
        return bind(eqn, args)


def _grows(eqn: Any) -> bool:
    sizes = [getattr(v.aval, "size", 1) for v in eqn.invars]
    return any(getattr(v.aval, "size", 1) > max(sizes) for v in eqn.outvars)
