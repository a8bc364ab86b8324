"""Quantized functions trained with each quantizer: served as simulated, with gradients that add up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.numerics import dequantize
from qat.quantizers import quantizers
from qat.recipes.recipe import activation_spec, weight_spec

NAMES = quantizers.names()
SLOW = [n if n in ("ste", "lsq_plus") else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
VALUES = np.random.default_rng(0).standard_normal((8, 50)).astype(np.float32)
PULL = np.random.default_rng(1).standard_normal((8, 50)).astype(np.float32)


def encoder(w, x):
    return jnp.sin(jax.nn.relu(jax.lax.conv(x, w["conv"], (1, 1), "SAME")).mean((2, 3)) @ w["head"])


def drawn():
    """Weights and inputs of the encoder."""
    rng = np.random.default_rng(3)
    w = {"conv": rng.normal(size=(4, 2, 3, 3)), "head": rng.normal(size=(4, 3))}
    return jax.tree.map(jnp.float32, w), jnp.float32(rng.normal(size=(8, 2, 5, 5)))


@pytest.mark.parametrize(
    "name", ["lsq", *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in ("ste", "dorefa", "lsq"))]
)
def test_accumulated_gradients_of_a_mean_loss_are_those_of_the_whole_batch(name):
    w, x = drawn()
    q = qat.quantize(encoder, qat.recipe("w3a3", quantizer=name, edges="same"))
    state = q.calibrate(w, [x])

    @jax.jit
    def slope(learned, x):
        return jax.grad(lambda v: (q.simulate(w, dataclasses.replace(state, learned=v), x) ** 2).mean())(learned)

    whole, parts = slope(state.learned, x), [slope(state.learned, part) for part in jnp.split(x, 4)]
    accumulated = jax.tree.map(lambda *g: sum(g) / 4, *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), accumulated, whole)


@pytest.mark.parametrize("name", SLOW)
def test_what_is_trained_is_served_bit_for_bit(name):
    w, x = drawn()
    q = qat.quantize(encoder, qat.recipe("w2a2", quantizer=name, edges="same"))
    state = q.calibrate(w, [x])
    trained = jax.tree.map(lambda v: v * np.float32(0.8), state.learned)
    state = dataclasses.replace(state, learned=trained)
    np.testing.assert_array_equal(q.serve(q.convert(w, state, x), x), q.simulate(w, state, x))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_number_of_an_embedding_learns_where_most_values_are_at_one_end_of_the_range(bits):
    rng = np.random.default_rng(bits)
    w = {"table": jnp.float32(rng.normal(size=(3, 12))), "head": jnp.float32(rng.normal(size=(12, 5)))}
    w["table"] = w["table"].at[0].set(w["table"].min())  # the commonest category, at the end
    tokens = jnp.array([0] * 30 + [1, 2])
    rule = qat.QuantRule(activations=activation_spec(bits))
    q = qat.quantize(lambda w, t: jnp.tanh(w["table"][t] @ w["head"]), qat.QuantRecipe((rule,)))
    state = q.calibrate(w, [tokens])
    slope = jax.grad(lambda w: (q.simulate(w, state, tokens) ** 2).sum())(w)["table"]
    assert (np.asarray(slope) != 0).all()


def test_dorefa_squeezes_weights_keeps_their_size_and_serves_what_it_simulates():
    w = {"kernel": jnp.float32(VALUES[:, :6] * 3)}
    rule = qat.QuantRule(weights=weight_spec(4, quantizer="dorefa"), activations=activation_spec(8))
    q = qat.quantize(lambda w, x: x @ w["kernel"], qat.QuantRecipe((rule,)))
    x = jnp.float32(PULL[:, :8])
    state = q.calibrate(w, [x])
    converted = q.convert(w, state, x)
    np.testing.assert_array_equal(q.serve(converted, x), q.simulate(w, state, x))
    (kernel,) = converted.weights.values()
    m = np.abs(w["kernel"]).max(0)
    squeezed = np.tanh(w["kernel"]) * m / np.tanh(m)
    assert np.abs(dequantize(kernel) - squeezed).max() <= 0.51 * np.asarray(kernel.scale).max()
    assert np.abs(np.asarray(kernel.codes)).max(0).min() == 7
    slope = jax.grad(lambda w: q.simulate(w, state, x).sum())(w)["kernel"]
    want = x.sum(0)[:, None] * (1 - np.tanh(w["kernel"]) ** 2) * m / np.tanh(m)
    np.testing.assert_allclose(slope, want, rtol=0.1, atol=0.1)  # at activations of 8 bits
    with pytest.raises(ValueError, match=r"'adaround.*' chooses grid points.*'dorefa' reshapes"):
        qat.ptq.apply(["adaround"], q, w, state, [x])
