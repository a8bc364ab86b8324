"""The share of multiplications at each pair of bits: scans by their length, float sites as float."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import quantize, recipe
from qat.analysis import operations
from qat.core.sites import bits_of_product
from qat.core.tables import shares_text

WIDTH, LENGTH = 8, 5


def network(params, x):
    """Two plain layers, one that a scan runs five times over, and a product of activations."""
    x = x @ params["first"]

    def step(h, _):
        return jnp.tanh(h @ params["again"]), None

    x, _ = jax.lax.scan(step, x, length=LENGTH)
    return (x @ x.T) @ x @ params["last"]


PARAMS = {n: jax.random.normal(jax.random.key(i), (WIDTH, WIDTH)) for i, n in enumerate(("first", "again", "last"))}
X = jax.random.normal(jax.random.key(9), (4, WIDTH))
LAYER, PRODUCTS = 4 * WIDTH * WIDTH, 2 * 4 * 4 * WIDTH
TOTAL = (2 + LENGTH) * LAYER + PRODUCTS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w4a4", {"4x4": LENGTH * LAYER + PRODUCTS, "8x8": 2 * LAYER}),
        ("w4a6(edges='float', products=False)", {"4x6": LENGTH * LAYER, "float": 2 * LAYER + PRODUCTS}),
        ("w4a6(edges='same')", {"4x6": (2 + LENGTH) * LAYER, "6x6": PRODUCTS}),
        ("w3(edges='same')", {"3xfloat": (2 + LENGTH) * LAYER, "float": PRODUCTS}),
        ("w3a5_dynamic(edges='same')", {"3x5": (2 + LENGTH) * LAYER, "5x5": PRODUCTS}),
    ],
)
def test_shares_count_every_multiplication_at_the_bits_of_its_operands(name, expected):
    q = quantize(network, recipe(name))
    found = operations(q, PARAMS, q.calibrate(PARAMS, [X]), X)
    assert found == pytest.approx({bits: macs / TOTAL for bits, macs in expected.items()})
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert q.sites(PARAMS, X).operations == pytest.approx(found)


def test_the_bits_are_those_of_the_state():
    low, high = (quantize(network, recipe(f"w{bits}a{bits}(edges='same')")) for bits in (4, 8))
    assert operations(low, PARAMS, low.adopt(high.calibrate(PARAMS, [X])), X) == {"8x8": 1.0}


def test_the_table_of_sites_tells_the_shares():
    assert "multiplications by bits of weights x activations: " in repr(
        quantize(network, recipe("w4a4")).sites(PARAMS, X)
    )


def test_a_function_that_only_looks_up_multiplies_nothing():
    params, tokens = {"embedding": jnp.ones((6, 4))}, jnp.zeros((2, 3), jnp.int32)
    q = quantize(lambda params, tokens: params["embedding"][tokens], recipe("w8"))
    assert operations(q, params, q.calibrate(params, [tokens]), tokens) == {}
    assert q.sites(params, tokens).operations == {}


def test_words_put_the_weight_first_and_small_shares_keep_a_decimal():
    assert bits_of_product([(False, 8), (True, 4)]) == bits_of_product([(True, 4), (False, 8)]) == "4x8"
    assert bits_of_product([(True, None), (False, None)]) == "float"
    assert shares_text({"4x4": 0.7654, "8x8": 0.2332, "float": 0.0014}) == "77 % 4x4, 23 % 8x8, 0.1 % float"
    assert np.isclose(sum({"4x4": 0.7654, "8x8": 0.2332, "float": 0.0014}.values()), 1)
