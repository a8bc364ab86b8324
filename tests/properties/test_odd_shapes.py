"""Branches that constants choose, arrays without elements, and sites that depend on the shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from lowered import exported

import qat

W = jax.random.normal(jax.random.key(0), (3, 8, 8)) / 4
X = jax.random.normal(jax.random.key(1), (5, 8))
NONE = X[:0]
ERROR = 0.03  # of the largest output: 8 bits through a few layers


def both(fn, params, x, recipe="w8a8"):
    """The served result, held to the simulated and to float; and the state."""
    q = qat.quantize(fn, qat.recipe(recipe))
    state = q.calibrate(params, [x])
    served = q.serve(q.convert(params, state, x), x)
    np.testing.assert_array_equal(served, q.simulate(params, state, x))
    exact = fn(params, x)
    assert jnp.abs(served - exact).max() < ERROR * jnp.abs(exact).max()
    return served, state


@pytest.mark.parametrize("flags", [[True, False, True], [True, True, True]], ids=["mixed", "one_branch_never"])
def test_layers_with_a_constant_flag_are_calibrated_in_the_branches_they_take(flags):
    def fn(params, x):
        def body(h, layer):
            w, flag = layer
            return lax.cond(flag, lambda h: jnp.tanh(h @ w), lambda h: jnp.sin(h @ w), h), None

        return lax.scan(body, x, (params, jnp.array(flags)))[0]

    _, state = both(fn, W, X)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.clips))


def test_a_branch_that_an_input_chooses_and_no_batch_takes_is_refused():
    fn = lambda w, x: lax.cond(x.sum() > 1e6, lambda x: x @ w[0], lambda x: x @ w[1], x)  # noqa: E731
    message = r"no calibration batch reached .* make its activations dynamic, or leave them in float"
    with pytest.raises(ValueError, match=message):
        qat.quantize(fn, qat.recipe("w8a8")).calibrate(W, [X])


def test_a_choice_by_platform_stays_one():
    def fn(w, x):
        return lax.platform_dependent(x, cpu=lambda x: jnp.tanh(x @ w[0]), default=lambda x: jnp.tanh(x) @ w[0]) @ w[1]

    both(fn, W, X)
    q = qat.quantize(fn, qat.recipe("w8a8"))
    state = q.calibrate(W, [X])
    texts = [exported(q.simulate, W, state, X, platforms=[*names]).mlir_module() for names in (["cpu"], ["cpu", "tpu"])]
    assert [text.count("stablehlo.tanh") for text in texts] == [1, 2]


def mlp(w, x):
    return jnp.tanh(x @ w[0]) @ w[1]


@pytest.mark.parametrize("recipe", ["w8a8", "w8a8_dynamic"])
def test_a_batch_of_none_is_served(recipe):
    q = qat.quantize(mlp, qat.recipe(recipe))
    state = q.calibrate(W, [X, NONE])
    assert q.serve(q.convert(W, state, X), NONE).shape == q.simulate(W, state, NONE).shape == (0, 8)


def test_batches_of_none_alone_calibrate_nothing():
    with pytest.raises(ValueError, match=r"no calibration batch reached .*batches without elements"):
        qat.quantize(mlp, qat.recipe("w8a8")).calibrate(W, [NONE])


def test_a_batch_of_none_adds_nothing():
    q = qat.quantize(mlp, qat.recipe("w8a8(observer='ema')"))
    a, b = q.calibrate(W, [X, NONE, 2 * X]), q.calibrate(W, [X, 2 * X])
    jax.tree.map(np.testing.assert_array_equal, a.clips, b.clips)


def test_layers_without_features_stay_in_float_with_the_reason():
    params = {"w": W, "in": jnp.ones((8, 0)), "out": jnp.ones((0, 8))}
    fn = lambda p, x: mlp(p["w"], x) + (x @ p["in"]) @ p["out"]  # noqa: E731
    both(fn, params, X)
    reasons = {s.path: s.reason for s in qat.quantize(fn, qat.recipe("w8a8")).sites(params, X)}
    assert reasons["in"] == reasons["out"] == "an operand has no elements at these shapes"


def test_ids_that_are_none_are_named():
    fn = lambda w, ids: w[0][ids] @ w[1]  # noqa: E731
    with pytest.raises(ValueError, match=r"an input of shape \(2, 0\) has no elements"):
        qat.quantize(fn, qat.recipe("w8a8")).sites(W, jnp.zeros((2, 0), jnp.int32))


def associative(params, x):
    return lax.associative_scan(jnp.matmul, jnp.einsum("tbi,ijk->tbjk", x, params))


def test_an_associative_scan_of_matrices_is_served_at_its_length_and_refused_at_another():
    params = 0.3 * jax.random.normal(jax.random.key(5), (8, 4, 4))
    x, longer = (jax.random.normal(jax.random.key(n), (n, 2, 8)) for n in (5, 9))
    _, state = both(associative, params, x)
    q = qat.quantize(associative, qat.recipe("w8a8"))
    with pytest.raises(ValueError, match="with batches of the shapes that it is to run at"):
        q.simulate(params, state, longer)
    with pytest.raises(ValueError, match="calibrate and convert with inputs of the shapes to serve"):
        q.serve(q.convert(params, state, x), longer)
