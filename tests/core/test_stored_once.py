"""Weights that are picked or computed before they are used: found, right, and stored once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import qat

LAYERS, WIDTH = 3, 16
STACK = jax.random.normal(jax.random.key(0), (LAYERS, WIDTH, WIDTH)) / 6
X = jax.random.normal(jax.random.key(1), (5, WIDTH))
ERROR = 0.03  # of the largest output: 8 bits through a few layers


def mapped(params, x):
    return lax.map(lambda i: jnp.tanh(x @ params["w"][i]), jnp.arange(LAYERS)).sum(0)


def picked(params, x):
    return lax.scan(lambda h, i: (jnp.tanh(h @ params["w"][i]), None), x, jnp.array([2, 0, 1]))[0]


def nested(params, x):
    pairs = params["w"][:2].reshape(2, 1, WIDTH, WIDTH)

    def outer(h, i):
        return lax.scan(lambda h, j: (jnp.tanh(h @ pairs[i, j]), None), h, jnp.arange(1))[0], None

    return lax.scan(outer, x, jnp.arange(2))[0]


def scanned_twice(params, x):
    def body(h, w):
        return jnp.tanh(h @ w), None

    return lax.scan(body, lax.scan(body, x, params["w"])[0], params["w"], reverse=True)[0]


def normalized(params, x):
    w = params["w"][0] / jnp.linalg.norm(params["w"][0], axis=0) * params["g"]
    return jnp.tanh(x @ w) @ w


def kept(fn):
    """The stored weights' shapes; the served function is held to the simulated one, and that to float."""
    params = {"w": STACK, "g": jnp.linspace(0.5, 1.5, WIDTH)}
    q = qat.quantize(fn, qat.recipe("w8a8"))
    assert all(s.reason is None for s in q.sites(params, X) if s.op == "dot_general")
    state = q.calibrate(params, [X])
    int8 = q.convert(params, state, X)
    simulated, exact = q.simulate(params, state, X), fn(params, X)
    np.testing.assert_array_equal(q.serve(int8, X), simulated)
    assert jnp.abs(simulated - exact).max() < ERROR * jnp.abs(exact).max()
    return [q.codes.shape for q in int8.weights.values()]


@pytest.mark.parametrize("fn", [mapped, picked])
def test_a_stack_picked_by_a_scanned_constant_is_a_weight_for_each_turn(fn):
    assert kept(fn) == [STACK.shape]


def test_a_stack_picked_by_constants_of_nested_scans_is_a_weight_for_each_turn():
    assert kept(nested) == [(2, 1, WIDTH, WIDTH)]


def test_a_stack_scanned_twice_is_stored_once():
    assert kept(scanned_twice) == [STACK.shape]


def test_a_computed_weight_that_two_sites_use_is_stored_once_where_they_use_it_alike():
    assert kept(normalized) == [(WIDTH, WIDTH)]


def test_bytes_in_the_table_are_those_that_are_stored():
    params = {"w": STACK, "g": jnp.ones(WIDTH)}
    sites = qat.quantize(normalized, qat.recipe("w8a8")).sites(params, X)
    assert sum(s.bytes for s in sites) == WIDTH * WIDTH


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int4", "uint4", "bfloat16", "float16", "bool"])
def test_biases_of_every_type_are_saved(tmp_path, dtype):
    params = {"w": STACK[0], "b": jnp.array([0, 1] * (WIDTH // 2)).astype(dtype)}
    q = qat.quantize(lambda p, x: x @ p["w"] + p["b"].astype(jnp.float32), qat.recipe("w8"))
    int8 = q.convert(params, q.calibrate(params, [X]), X)
    qat.save(tmp_path / "model.safetensors", int8)
    loaded = qat.load(tmp_path / "model.safetensors")
    assert loaded.leaves["b"].dtype == params["b"].dtype
    np.testing.assert_array_equal(q.serve(loaded, X), q.serve(int8, X))
