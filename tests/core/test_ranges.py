"""Tensors without a usable range: of zeros when calibrated, of values that left it, too large, or NaN."""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from often import slow_after

import qat
from qat import QuantRecipe, QuantRule, TensorSpec
from qat.observers import observers

RECIPES = ("w8a8", "w8", "w8a8_dynamic", "w8a8(quantizer='lsq')")
EYE, X = jnp.eye(2), jnp.array([[1.0, 2.0], [3.0, 4.0]])
NAN = X.at[0, 0].set(jnp.nan)


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def product(w, x):
    return x @ w


def biased(p, x):
    return (x @ p["w"] + p["b"]) @ p["w"]


def calibrated(fn, recipe, params: Any = EYE, x=X, **options):
    q = qat.quantize(fn, qat.recipe(recipe, edges="same") if isinstance(recipe, str) else recipe, **options)
    return q, q.calibrate(params, [x])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_weight_that_is_not_finite_gives_nan_and_is_not_converted(recipe, value):
    q, state = calibrated(product, recipe)
    w = EYE.at[0, 0].set(value)
    out = q.simulate(w, state, X)
    assert np.isnan(out[:, 0]).all()
    np.testing.assert_allclose(out[:, 1], X[:, 1], rtol=0.02)
    with pytest.raises(ValueError, match="NaN or infinity in the weight ''"):
        q.convert(w, state, X)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_float_parameter_that_is_nan_gives_a_nan_loss_and_is_not_converted(recipe):
    params = {"w": EYE, "b": jnp.zeros(2)}
    q, state = calibrated(biased, recipe, params)
    bad = {**params, "b": jnp.array([jnp.nan, 0.0])}
    assert np.isnan(q.simulate(bad, state, X).sum())
    with pytest.raises(ValueError, match="NaN in the parameter 'b'"):
        q.convert(bad, state, X)


@pytest.mark.parametrize(("recipe", "check"), [("w8a8", True), ("w8a8_dynamic", False), ("w8", False)])
def test_a_nan_among_the_inputs_gives_nan_where_it_is_looked_for_or_free(recipe, check):
    q, state = calibrated(product, recipe, check_nan=check)
    for out in (q.simulate(EYE, state, NAN), q.serve(q.convert(EYE, state, X), NAN)):
        assert np.isnan(out[0]).all()


def test_looking_for_nan_changes_no_bit_where_there_is_none():
    (plain, state), (looking, _) = calibrated(product, "w8a8"), calibrated(product, "w8a8", check_nan=True)
    y = plain.simulate(EYE, state, X)
    for out in (looking.simulate(EYE, state, X), looking.serve(looking.convert(EYE, state, X), X)):
        np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("grid", ["symmetric", "affine"])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_a_weight_that_was_zero_when_calibrated_is_served_in_the_range_of_its_values(grid, per):
    spec = TensorSpec(8, grid=grid, per=per)
    q, state = calibrated(product, QuantRecipe((QuantRule(weights=spec),)), 0 * EYE)
    w = array(2, 2) / 7
    y = q.simulate(w, state, X)
    np.testing.assert_allclose(y, X @ w, rtol=0.02, atol=0.01)
    np.testing.assert_array_equal(q.serve(q.convert(w, state, X), X), y)


def test_a_channel_that_was_zero_when_calibrated_follows_and_the_others_stay():
    q, state = calibrated(product, "w8", EYE.at[1, 1].set(0))
    np.testing.assert_allclose(q.simulate(EYE / 3, state, X), X / 3, rtol=0.02)
    np.testing.assert_allclose(q.simulate(3 * EYE, state, X), X * jnp.array([1, 3]), rtol=0.02)


def test_calibrating_on_nothing_but_zeros_warns_with_the_place():
    with pytest.warns(UserWarning, match=r"nothing but zeros at ':dot_general:0/lhs'.*Calibrate on data"):
        calibrated(product, "w8a8", x=0 * X)


@pytest.mark.parametrize("recipe", ["w8a8", "w8a8_dynamic"])
def test_zeros_whose_range_is_taken_at_each_call_are_not_warned_of(recipe):
    params, x = (0 * EYE, X) if recipe == "w8a8" else (0 * EYE, 0 * X)
    calibrated(product, recipe, params, x)


def test_conversion_says_where_a_weight_lies_far_outside_of_its_range():
    q, state = calibrated(product, "w8", 1e-3 * EYE)
    with pytest.warns(UserWarning, match="most values of '' lie far outside .*stale.*Calibrate with these"):
        q.convert(EYE, state, X)


def test_a_trained_weight_within_reach_of_its_range_is_converted_in_silence():
    q, state = calibrated(product, "w4a4(observer='mse')", array(32, 8), array(16, 32, seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q.convert(2 * array(32, 8), state, array(16, 32, seed=1))


def adapted(p, x):
    """A frozen layer with a low-rank change, whose second factor starts at zero."""
    return x @ jax.lax.stop_gradient(p["frozen"]) + (x @ p["a"]) @ p["b"]


def trained(loss, params, steps=150):
    adam = optax.adam(1e-2)

    @jax.jit
    def run(params):
        def step(carry, _):
            value, slope = jax.value_and_grad(loss)(carry[0])
            updates, moments = adam.update(slope, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), moments), value

        return jax.lax.scan(step, (params, adam.init(params)), None, steps)[1][-1]

    return float(run(params))


@pytest.mark.parametrize("quantizer", slow_after(1, ["lsq", "pact"]))
def test_what_learns_of_a_weight_of_zeros_starts_where_training_comes_near_floats(quantizer):
    params = {"frozen": array(16, 8) / 4, "a": array(16, 4, seed=1) / 4, "b": jnp.zeros((4, 8))}
    x = array(128, 16, seed=2)
    y = x @ (params["frozen"] + array(16, 4, seed=3) @ array(4, 8, seed=4) / 8)
    q = qat.quantize(adapted, qat.recipe("w8a8", quantizer=quantizer, edges="same"))
    with pytest.warns(UserWarning, match="nothing but zeros at 'b': its learned range starts from a guess"):
        state = q.calibrate(params, [x])

    def loss(t):
        return ((q.simulate(t["params"], dataclasses.replace(state, learned=t["learned"]), x) - y) ** 2).mean()

    before = float(((adapted(params, x) - y) ** 2).mean())
    in_float = trained(lambda p: ((adapted(p, x) - y) ** 2).mean(), params)
    assert trained(loss, {"params": params, "learned": state.learned}) < in_float + 0.1 * before


@pytest.mark.parametrize("observer", observers.names())
@pytest.mark.parametrize("largest", [-2e38, 3e38, 1e38])
def test_values_up_to_the_largest_of_float32_have_their_range(observer, largest):
    x = array(8, 8).at[3, 3].set(largest)
    spec = TensorSpec(8, grid="affine", observer=observer)
    q, state = calibrated(product, QuantRecipe((QuantRule(activations=spec),)), jnp.eye(8), x)
    clip = state.clips[":dot_general:0/lhs"]
    assert all(np.isfinite(bound) for bound in jax.tree.leaves((clip.low, clip.high)))
    np.testing.assert_allclose(q.simulate(jnp.eye(8), state, x)[3, 3], largest, rtol=0.01)


def test_a_range_too_wide_for_its_grid_is_refused_with_the_place():
    x = X.at[0, 0].set(3e38)
    with pytest.raises(ValueError, match=r"':dot_general:0/lhs' are too large for a grid of 2 bits.*3e\+38.*Check"):
        calibrated(product, "w8a2", x=x)


@pytest.mark.parametrize("observer", observers.names())
def test_an_unsigned_grid_takes_its_range_from_the_values_above_zero(observer):
    x = array(32, 8) - 0.5
    spec = TensorSpec(4, grid="unsigned", observer=observer)
    recipe = QuantRecipe((QuantRule(activations=spec),))
    with_negative, above = (calibrated(product, recipe, jnp.eye(8), v)[1] for v in (x, jnp.maximum(x, 0)))
    jax.tree.map(np.testing.assert_array_equal, with_negative.clips, above.clips)
