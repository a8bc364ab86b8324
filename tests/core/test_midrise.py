"""Grids without zero: odd codes, simulated and served alike, stored in as many bits as they have, refused where zero is
needed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.export.formats.stablehlo import _packed
from qat.export.safetensors import serialized
from qat.numerics import MIDRISE_BITS, code_range, dequantize, fake_quant, params_of_range, quantize
from qat.observers import observers
from qat.recipes.layer_bits import raise_bits
from qat.recipes.recipe import TensorSpec, activation_spec, weight_spec

RNG = np.random.default_rng(0)
WEIGHTS = {"conv": jnp.float32(RNG.normal(size=(4, 2, 3, 3))), "head": jnp.float32(RNG.normal(size=(4, 3)))}
X = jnp.float32(RNG.normal(size=(8, 2, 5, 5)))


def network(w, x):
    return jax.nn.relu(jax.lax.conv(x, w["conv"], (1, 1), "SAME")).mean((2, 3)) @ w["head"]


def grid_of(bits, bound=1.0):
    return params_of_range(
        "midrise", -jnp.float32(bound), jnp.float32(bound), *map(jnp.int32, code_range(bits, "midrise"))
    )


@pytest.mark.parametrize("bits", range(MIDRISE_BITS[0], MIDRISE_BITS[1] + 1))
def test_every_value_goes_to_the_nearest_odd_code(bits):
    p = grid_of(bits)
    x = np.linspace(-1.3, 1.3, 999).astype(np.float32)
    levels = np.arange(1 - 2**bits, 2**bits, 2)
    codes = np.asarray(quantize(jnp.asarray(x), p))
    assert set(codes) == set(levels)
    distance = np.abs(x[:, None] / np.float64(p.scale) - levels)
    assert (np.abs(x / np.float64(p.scale) - codes) <= distance.min(1) + 1e-4).all()
    there_and_back = dequantize(qat.numerics.QTensor(jnp.asarray(codes), p.scale, None))
    np.testing.assert_array_equal(fake_quant(jnp.asarray(x), p), there_and_back)


RECIPES = {
    "binary": qat.recipe("w1a8", edges="same"),
    "two_bits": qat.recipe("w2a4", weight_grid="midrise", quantizer="lsq", edges="same"),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_odd_codes_are_served_as_simulated_and_take_the_bits_they_have(recipe, tmp_path):
    q = qat.quantize(network, recipe)
    state = q.calibrate(WEIGHTS, [X])
    converted = q.convert(WEIGHTS, state, X)
    np.testing.assert_array_equal(q.serve(converted, X), q.simulate(WEIGHTS, state, X))
    bits = recipe.rules[0].weights.bits
    for one in converted.weights.values():
        assert set(np.unique(one.codes)) <= set(range(1 - 2**bits, 2**bits, 2))
    path = tmp_path / "model.safetensors"
    qat.save(path, converted)
    loaded = qat.load(path)
    jax.tree.map(np.testing.assert_array_equal, loaded.weights, converted.weights)
    np.testing.assert_array_equal(q.serve(loaded, X), q.serve(converted, X))
    wider = dataclasses.replace(converted.weights["conv"], bits=jnp.int32(bits + 1))
    more = serialized(dataclasses.replace(converted, weights=converted.weights | {"conv": wider}))
    assert len(more) - len(serialized(converted)) == pytest.approx(WEIGHTS["conv"].size / 8, abs=8)


def test_a_stablehlo_file_holds_a_binary_weight_in_bits():
    q = qat.quantize(lambda w, x: x @ w["head"], RECIPES["binary"])
    x = X[:, 0, :4, 0]
    converted = q.convert(WEIGHTS, q.calibrate(WEIGHTS, [x]), x)
    constants, restore = _packed(converted)
    (packed,) = (one for one in constants if one.dtype == jnp.uint8)
    assert packed.size == 2  # 12 weights of one bit
    np.testing.assert_array_equal(restore(constants).weights["head"].codes, converted.weights["head"].codes)


def test_activations_may_have_odd_codes_where_nothing_is_padded():
    spec = activation_spec(2, grid="midrise", observer="mse")
    recipe = qat.QuantRecipe((qat.QuantRule("head", activations=spec, weights=weight_spec(2, grid="midrise")),))
    q = qat.quantize(network, recipe)
    state = q.calibrate(WEIGHTS, [X])
    converted = q.convert(WEIGHTS, state, X)
    np.testing.assert_array_equal(q.serve(converted, X), q.simulate(WEIGHTS, state, X))
    with pytest.raises(ValueError, match=r"conv.* pads its activation with zero.*'midrise'.*'affine'"):
        qat.quantize(network, qat.QuantRecipe((qat.QuantRule(activations=spec),))).sites(WEIGHTS, X)


def test_the_least_squared_error_of_one_bit_is_at_the_mean_size():
    x = jnp.float32(RNG.normal(size=(1, 20_000)))
    observer = observers.build("mse")
    _, high = observer.range(observer.update(observer.init(1), x), jnp.float32(1), True)
    np.testing.assert_allclose(high[0], jnp.abs(x).mean(), rtol=0.03)  # between two steps that are tried


def test_a_channel_of_zeros_stays_next_to_zero():
    w = WEIGHTS | {"head": WEIGHTS["head"].at[:, 1].set(0)}
    q = qat.quantize(network, RECIPES["binary"])
    state = q.calibrate(w, [X])
    assert np.abs(np.asarray(q.simulate(w, state, X))[:, 1]).max() < 1e-20


def test_what_does_not_fit_is_refused_and_raised_layers_have_a_zero():
    with pytest.raises(ValueError, match=r"\[2, 8\], got 1. One bit needs grid='midrise'"):
        TensorSpec(1)
    with pytest.raises(ValueError, match=r"\[1, 7\] on a midrise grid, got 8"):
        TensorSpec(8, grid="midrise")
    with pytest.raises(ValueError, match="'midrise' needs a static range"):
        TensorSpec(2, grid="midrise", dynamic=True)
    q = qat.quantize(network, RECIPES["binary"])
    with pytest.raises(ValueError, match=r"'adaround' knows no grid without zero"):
        qat.ptq.apply(["adaround"], q, WEIGHTS, q.calibrate(WEIGHTS, [X]), [X])
    (_, raised), *_ = raise_bits(RECIPES["binary"], ["head"]).weights
    assert (raised.bits, raised.grid) == (8, "symmetric")
