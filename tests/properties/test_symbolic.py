"""Functions exported at symbolic lengths: served as at concrete ones, refused where a sum may not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowered import exported

import qat

W = jax.random.normal(jax.random.key(0), (3, 8, 8)) / 3
X = jax.random.normal(jax.random.key(1), (2, 5, 8))


def attention(w, x):
    scores = jax.nn.softmax(jnp.einsum("bid,bjd->bij", x @ w[0], x))
    return jnp.einsum("bij,bjd->bid", scores, x) @ w[1]


def recurrent(w, x):
    return jax.lax.scan(lambda h, x: (jnp.tanh(x @ w[0] + h), h), x[:, 0], x.swapaxes(0, 1))[1]


def convolved(w, x):
    return jax.lax.conv_general_dilated(x, w, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


def serving(fn, recipe):
    q = qat.quantize(fn, qat.recipe(recipe))
    int8 = q.convert(W, q.calibrate(W, [X]), X)
    return lambda x: q.serve(int8, x)


def at_symbolic_lengths(serve, *constraints):
    batch, length = jax.export.symbolic_shape("b, t", constraints=constraints)
    whole = exported(serve, jax.ShapeDtypeStruct((batch, length, 8), jnp.float32), platforms=["cpu", "cuda"])
    return whole.call(jnp.tile(X, (2, 2, 1))[:3, :7])


@pytest.mark.parametrize("fn", [recurrent, convolved])
@pytest.mark.parametrize("recipe", ["w8a8", "w8"])
def test_a_length_that_is_not_summed_needs_no_bound(fn, recipe):
    serve = serving(fn, recipe)
    np.testing.assert_array_equal(at_symbolic_lengths(serve), serve(jnp.tile(X, (2, 2, 1))[:3, :7]))


def test_a_length_that_is_summed_needs_an_upper_bound():
    serve = serving(attention, "w8a8")
    with pytest.raises(ValueError, match=r"contracts t products, .* constraints=\['t <= 33025'\]"):
        at_symbolic_lengths(serve)
    bounded = at_symbolic_lengths(serve, "t <= 33025")
    np.testing.assert_array_equal(bounded, serve(jnp.tile(X, (2, 2, 1))[:3, :7]))


def test_in_float_a_summed_length_needs_no_bound():
    serve = serving(attention, "w8a8(products=False)")
    np.testing.assert_array_equal(at_symbolic_lengths(serve), serve(jnp.tile(X, (2, 2, 1))[:3, :7]))
