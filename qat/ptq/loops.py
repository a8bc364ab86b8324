"""Products that are fast within a compiled loop on a CPU, and have fast gradients there, as
`qat.core.jaxpr.in_loops` explains."""

import functools
from typing import Any

import jax
from jaxtyping import Array

from qat.core.jaxpr import bind, laid_out, layouts


def product(eqn: Any, lhs: Array, rhs: Array) -> Array:
    """The result of an equation that is a `dot_general` or a convolution."""
    if eqn.primitive.name == "conv_general_dilated":
        return _conv(_Form(eqn), lhs, rhs)
    if _of_rows(eqn):
        # The gradient for `rhs` of more axes than two would copy both factors, which takes as long as the products.
        return (lhs.reshape(-1, lhs.shape[-1]) @ rhs).reshape(*lhs.shape[:-1], rhs.shape[-1])
    return bind(eqn, [lhs, rhs])[0]


def _of_rows(eqn: Any) -> bool:
    if eqn.primitive.name != "dot_general" or eqn.invars[1].aval.ndim != 2:
        return False
    last = eqn.invars[0].aval.ndim - 1
    return eqn.params["dimension_numbers"] == (((last,), (0,)), ((), ()))


class _Form:
    """An equation, compared by identity."""

    def __init__(self, eqn: Any) -> None:
        self.eqn = eqn


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(form: _Form, lhs: Array, rhs: Array) -> Array:
    return laid_out(form.eqn, lhs, rhs)


def _conv_forward(form: _Form, lhs: Array, rhs: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv(form, lhs, rhs), (lhs, rhs)


def _conv_backward(form: _Form, kept: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    lhs, rhs = kept
    for_lhs = jax.linear_transpose(lambda x: bind(form.eqn, [x, rhs])[0], lhs)
    for_rhs = jax.linear_transpose(lambda w: bind(form.eqn, [lhs, w])[0], rhs)
    return _evaluated(for_lhs, grad), _evaluated(for_rhs, grad)


def _evaluated(transposed: Any, grad: Array) -> Array:
    """The transposed function's result, each convolution in it laid out."""
    closed = jax.make_jaxpr(transposed)(grad)
    env: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(closed.jaxpr.invars, [grad], strict=True))
    for eqn in closed.jaxpr.eqns:
        reads: list[Any] = eqn.invars
        arrays = [v.val if layouts.is_literal(v) else env[v] for v in reads]
        conv = eqn.primitive.name == "conv_general_dilated"
        outs = [laid_out(eqn, *arrays)] if conv else bind(eqn, arrays)
        env.update(zip(eqn.outvars, outs, strict=True))
    return env[closed.jaxpr.outvars[0]]


_conv.defvjp(_conv_forward, _conv_backward)
