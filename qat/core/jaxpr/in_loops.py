"""Convolutions that are fast within a compiled loop on a CPU.

XLA brings a convolution into the layout of its fast kernel only outside of loops; in one, the gradients that jax
derives, whose layouts are others, ran 18 times as long for 3 x 3 taps between 48 channels. Here every layout is changed
by transpositions instead, as XLA itself does outside of loops, so that the numbers are the same too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array

from qat.core.jaxpr import layouts
from qat.core.jaxpr.contraction import Location
from qat.core.jaxpr.rewrite import Rewriting, rewrite

CONVOLUTION = "conv_general_dilated"


@dataclass(frozen=True)
class _Site:
    """A convolution at a location; it carries no values, so that no layer scan need slice any."""

    id: Location
    scans: tuple[Location, ...] = ()


def laid_out(eqn: Any, lhs: Array, rhs: Array) -> Array:
    """The convolution of an equation with channels last in its operands, its kernel and its result."""
    numbers = eqn.params["dimension_numbers"]
    left, right, out = ((s[0], *s[2:], s[1]) for s in (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec))
    right = (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
    rank = lhs.ndim
    last = (0, rank - 1, *range(1, rank - 1))
    standard = jax.lax.ConvDimensionNumbers(last, (rank - 1, rank - 2, *range(rank - 2)), last)
    params = {**eqn.params, "dimension_numbers": standard}
    y = eqn.primitive.bind(lhs.transpose(left), rhs.transpose(right), **params)
    return y.transpose(sorted(range(rank), key=out.__getitem__))


def in_loops(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make `fn` with every convolution laid out for a loop, where jax computes on a CPU; to be called while jax traces.

    Gradients bring convolutions of their own: give the function that takes them.
    """
    return _laid_out(fn) if jax.default_backend() == "cpu" else fn


def _laid_out(fn: Callable[..., Any]) -> Callable[..., Any]:
    def rewritten(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        sites: Any = {at: _Site(at) for at in _convolutions(closed, ())}

        def handler(site: Any, eqn: Any, arrays: list[Any], operands: Any, carried: Any, scope: Any) -> tuple[Any, Any]:
            return laid_out(eqn, *arrays), carried

        out, _ = rewrite(Rewriting(sites, handler, {}), closed, jax.tree.leaves(args), {}, {})
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return rewritten


def _convolutions(jaxpr: Any, at: Location) -> Iterator[Location]:
    """The locations of all convolutions but those in the condition of a loop."""
    inner, _ = layouts.open_jaxpr(jaxpr)
    for index, eqn in enumerate(inner.eqns):
        here, name = (*at, index), eqn.primitive.name
        if name == CONVOLUTION:
            yield here
        elif name == "cond":
            for i, branch in enumerate(eqn.params["branches"]):
                yield from _convolutions(branch, (*here, f"branches[{i}]"))
        elif name == "while":
            yield from _convolutions(eqn.params["body_jaxpr"], (*here, "call"))
        elif name in ENTERED:
            yield from _convolutions(layouts.inlined_jaxpr(eqn), (*here, "call"))


ENTERED = layouts.INLINED | layouts.REMAT | {"scan"}
