"""Convolutions in loops: the same numbers as outside, in the layouts of XLA's fast kernels."""

import jax
import jax.numpy as jnp
import numpy as np

from qat.core.jaxpr import in_loops, layouts

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 3)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 3, 3)), jnp.float32)
LAST = (0, 3, 1, 2)


def conv(x, w):
    return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def loss(w, x):
    y = jax.checkpoint(lambda w: jnp.tanh(conv(x, w)))(w)
    y = jax.lax.cond(
        y.sum() > 1e9, lambda y: y, lambda y: 2 * jax.jit(conv)(jnp.repeat(jnp.repeat(y, 2, 1), 2, 2), w), y
    )
    return jax.lax.scan(lambda total, row: (total + (conv(row[None], w) ** 2).sum(), None), y.sum(), x)[0]


def convolutions(jaxpr):
    for eqn in layouts.open_jaxpr(jaxpr)[0].eqns:
        if eqn.primitive.name == "conv_general_dilated":
            numbers = eqn.params["dimension_numbers"]
            yield numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
        for _, sub in layouts.subjaxprs(eqn):
            yield from convolutions(sub)


def test_gradients_are_the_same_and_every_convolution_has_channels_last():
    grad = jax.grad(loss, (0, 1))
    for a, b in zip(jax.jit(in_loops(grad))(W, X), jax.jit(grad)(W, X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    plain, rewritten = ({*convolutions(jax.make_jaxpr(f)(W, X))} for f in (grad, in_loops(grad)))
    assert len(plain) > 1
    assert rewritten == {(LAST, (3, 2, 0, 1), LAST)}
