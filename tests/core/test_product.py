"""The quantized product of a site, and its gradient, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from products import CASES, PRODUCTS, SERVED, inputs_of, quantized, ran, rounded

PAIRS = [(spec, case) for spec, cases in CASES.items() for case in cases]
every_product = pytest.mark.parametrize(("spec", "case"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
FLOAT32 = 3e-6  # of the largest result: sums of at most 150 products in float32, and one rescale
BFLOAT16 = 2**-8  # of the largest result, which is rounded to 8 bits


def assert_near(found, exact, share=FLOAT32):
    np.testing.assert_allclose(found, exact, rtol=0, atol=share * np.abs(exact).max())


@pytest.mark.parametrize("spec", CASES)
def test_every_product_is_quantized(spec):
    w, x = inputs_of(spec)
    assert [s.reason for s in quantized(spec).sites(w, x)] == [None] * len(x)


@every_product
def test_a_product_is_that_of_the_rounded_operands(spec, case):
    (x, _), (w, _) = rounded(spec, case)
    assert_near(ran(spec).simulated[case], PRODUCTS[case].numpy(x, w))


@every_product
def test_the_gradient_is_the_float_products_at_the_rounded_operands_within_their_ranges(spec, case):
    (x, x_inside), (w, w_inside) = rounded(spec, case)
    one = ran(spec)
    _, pullback = jax.vjp(PRODUCTS[case].jax, *(jnp.asarray(v, jnp.float32) for v in (x, w)))
    to_x, to_w = pullback(jnp.asarray(one.pull[case]))
    assert_near(one.x_gradients[case], np.where(x_inside, to_x, 0))
    assert_near(one.w_gradients[case], np.where(w_inside, to_w, 0))


@pytest.mark.parametrize("spec", SERVED)
def test_serving_gives_the_same_bits(spec):
    for case, y in ran(spec).simulated.items():
        np.testing.assert_array_equal(ran(spec).served[case], y)


def test_in_bfloat16_serving_gives_the_same_bits_of_the_same_type():
    one = ran("dynamic_affine", jnp.bfloat16)
    for case, y in one.simulated.items():
        assert y.dtype == jnp.bfloat16
        np.testing.assert_array_equal(one.served[case], y)
        (x, _), (w, _) = rounded("dynamic_affine", case, jnp.bfloat16)
        assert_near(y.astype(jnp.float32), PRODUCTS[case].numpy(x, w), BFLOAT16)
