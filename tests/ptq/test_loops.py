"""Products made for compiled loops: the same results and gradients as the equation itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.ptq.loops import product

LAST, FIRST = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
CONVOLUTIONS = {
    "strided": ((4, 9, 8, 8), (3, 3, 8, 6), {"window_strides": (2, 2), "padding": "SAME", "dimension_numbers": LAST}),
    "depthwise": (
        (4, 9, 8, 8),
        (3, 3, 1, 8),
        {"window_strides": (2, 2), "padding": "SAME", "dimension_numbers": LAST, "feature_group_count": 8},
    ),
    "dilated, grouped, channels first": (
        (4, 8, 9, 8),
        (6, 4, 3, 2),
        {
            "window_strides": (2, 1),
            "padding": "VALID",
            "rhs_dilation": (1, 2),
            "dimension_numbers": FIRST,
            "feature_group_count": 2,
        },
    ),
}


def compare(fn, x_shape, w_shape):
    x, w = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate((x_shape, w_shape)))
    eqn = jax.make_jaxpr(fn)(x, w).jaxpr.eqns[0]

    def in_loop(f):
        def turn(carry, _):
            return carry, (f(x, w), jax.grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), (0, 1))(x, w))

        return jax.jit(lambda: jax.lax.scan(turn, 0, None, length=2)[1])()

    ours, plain = in_loop(lambda x, w: product(eqn, x, w)), in_loop(fn)
    # Sums of the same products in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, plain)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_have_the_results_and_gradients_of_their_equation(name):
    x, w, options = CONVOLUTIONS[name]
    compare(lambda x, w: jax.lax.conv_general_dilated(x, w, **options), x, w)


@pytest.mark.parametrize("dimensions", [(((2,), (0,)), ((), ())), (((1,), (1,)), ((), ()))])
def test_matrix_products_have_the_results_and_gradients_of_their_equation(dimensions):
    compare(lambda x, w: jax.lax.dot_general(x, w, dimensions), (3, 5, 5), (5, 5))
