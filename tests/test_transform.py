"""`quantize` as a whole: what is data and what is code, what influences what, and what the results hold."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import qat
from qat.core.convert import _serve
from qat.transform import _simulate

BITS = ("w8a8", "w4a8", "w4a4", "w2a4")


def programs(jitted: Any) -> int:
    """How many programs a jitted function has compiled."""
    return jitted._cache_size()


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def mlp(p, x):
    return jax.nn.relu(x @ p["a"] + p["bias"]) @ p["b"] @ p["c"]


def mlp_params():
    return {"a": array(6, 8), "bias": array(8, seed=1), "b": array(8, 8, seed=2), "c": array(8, 4, seed=3)}


def fresh(fn):
    """A function of its own, for which nothing is compiled yet."""
    return lambda *args: fn(*args)


def ready(fn, recipe, params, *inputs, batches=None, **options):
    """The quantized function with its state and its converted parameters."""
    q = qat.quantize(fn, qat.recipe(recipe, **options) if isinstance(recipe, str) else recipe)
    state = q.calibrate(params, batches or [inputs])
    return q, state, q.convert(params, state, *inputs)


def test_one_program_simulates_and_serves_all_bit_widths():
    fn, params, x = fresh(mlp), mlp_params(), array(5, 6)
    before = programs(_simulate), programs(_serve)
    outputs = []
    for name in BITS:
        q, state, int8 = ready(fn, name, params, x)
        outputs.append(q.simulate(params, state, x))
        np.testing.assert_array_equal(outputs[-1], q.serve(int8, x))
    assert (programs(_simulate) - before[0], programs(_serve) - before[1]) == (1, 1)
    assert len({np.asarray(y).tobytes() for y in outputs}) == len(BITS)


def test_one_training_step_serves_all_bit_widths_and_clip_ranges():
    fn, params, x = fresh(mlp), mlp_params(), array(5, 6)
    observers = ("minmax", "minmax", "ema", "percentile(99)")
    recipes = [qat.recipe(n, edges="same", observer=o) for n, o in zip(BITS, observers, strict=True)]
    quantized = [qat.quantize(fn, recipe) for recipe in recipes]
    assert len({q.program for q in quantized}) == 1
    traced = []

    @jax.jit
    def step(params, state):
        traced.append(1)
        program = quantized[0].program
        loss, g = jax.value_and_grad(lambda p: jnp.square(program.simulate(p, state, x)).mean())(params)
        return loss, jax.tree.map(lambda p, g: p - 0.1 * g, params, g)

    states = [dataclasses.replace(q.calibrate(params, [x]), observers={}) for q in quantized]
    losses = [float(step(params, state)[0]) for state in states]
    assert len(traced) == 1 and len(set(losses)) == len(BITS)


class Attend(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Embed(6, 8, name="embed").attend(x)


ROUTES = {
    "Dense": (nn.Dense(6, use_bias=False).apply, lambda w: {"params": {"kernel": w}}),
    "matmul": (lambda p, x: x @ p, lambda w: w),
    "dot": (lambda p, x: jnp.dot(x, p), lambda w: w),
    "jitted dot": (jax.jit(lambda p, x: jnp.dot(x, p)), lambda w: w),
    "attend": (Attend().apply, lambda w: {"params": {"embed": {"embedding": w.T}}}),
}


@pytest.mark.parametrize("float_first", [True, False], ids=["float first", "quantized first"])
@pytest.mark.parametrize("route", ROUTES)
def test_float_and_quantized_never_influence_each_other(route, float_first):
    fn, params_of = ROUTES[route]
    w, x = array(8, 6), array(3 + 10 * list(ROUTES).index(route) + float_first, 8)  # no shape was compiled before
    params = params_of(w)
    q = qat.quantize(fn, qat.recipe("w4a4", edges="same", observer="minmax"))
    state = q.calibrate(params, [x[:2]])
    turns = [lambda: jax.jit(fn)(params, x), lambda: fn(params, x), lambda: q.simulate(params, state, x)]
    results = [turn() for turn in (turns if float_first else turns[::-1])]
    *floats, quantized = results if float_first else results[::-1]
    for y in floats:  # float32 sums of eight products
        np.testing.assert_allclose(y, x @ w, atol=1e-5)
    assert np.abs(quantized - x @ w).max() > 1e-2


def attention(p, x):
    h = jax.nn.relu(x @ p)
    return jnp.einsum("bij,bjd->bid", jnp.einsum("bid,bjd->bij", h, h), h)


@pytest.mark.parametrize("recipe", ["w8a8", "w4a8_dynamic"])
def test_other_batch_sizes_and_lengths_than_calibrated(recipe):
    params = array(6, 8)
    q, state, int8 = ready(attention, recipe, params, array(2, 4, 6))
    for shape in [(1, 9), (4, 3)]:
        x = array(*shape, 6, seed=5)
        y = q.simulate(params, state, x)
        assert y.shape == (*shape, 8)
        np.testing.assert_array_equal(y, q.serve(int8, x))


def test_a_batch_of_one_has_the_sites_and_ranges_of_a_larger_one():
    """`jnp.matmul` drops a batch axis of length one, so that its operands are other values there."""
    q = qat.quantize(lambda p, x: (x @ p) @ (x @ p).mT @ (x @ p) @ p.T, qat.recipe("w8a8"))
    params = array(4, 8)
    keys = [set(q.calibrate(params, [array(n, 3, 4)]).clips) for n in (1, 2)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("recipe", ["w8a8", "w8a8_dynamic"])
def test_a_row_does_not_depend_on_the_rows_beside_it(recipe):
    params, x = {"a": array(6, 8), "b": array(8, 4)}, array(5, 6)
    q, state, int8 = ready(lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], recipe, params, x)
    other = jnp.asarray(np.concatenate([x[:2], 100 * array(3, 6, seed=7)]))
    y = np.asarray(q.simulate(params, state, x))
    np.testing.assert_array_equal(y[:2], np.asarray(q.simulate(params, state, other))[:2])
    np.testing.assert_array_equal(y[:1], q.serve(int8, x[:1]))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


def test_running_statistics_pass_through_and_dropout_keys_among_the_inputs_count():
    model, x = Normed(), array(16, 6)
    variables = jax.jit(model.init, static_argnums=2)(jax.random.key(0), x, False)

    @jax.jit
    def fn(variables, x, key):
        y, updated = model.apply(variables, x, rngs={"dropout": key}, mutable=["batch_stats"])
        return y, updated, jax.random.bernoulli(key, shape=(4,))

    keys = jax.random.key(1), jax.random.key(2)
    q, state, int8 = ready(fn, "w8a8", variables, x, keys[0])
    results = [q.simulate(variables, state, x, key) for key in keys]
    (_, wanted, bits), (y, updated, same_bits) = fn(variables, x, keys[0]), results[0]
    for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)  # statistics of an 8-bit product
    np.testing.assert_array_equal(bits, same_bits)
    assert (np.asarray(y) != np.asarray(results[1][0])).any()
    for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(q.serve(int8, x, keys[0])), strict=True):
        np.testing.assert_array_equal(a, b)


def tied(p, ids):
    h = p["embed"][ids]
    for _ in range(2):
        h = jnp.tanh(h @ p["shared"])
    return h @ p["embed"].T


def test_a_tied_embedding_and_a_shared_layer_are_stored_once():
    params = {"embed": array(12, 8), "shared": array(8, 8), "scale": array(8)}

    def fn(p, ids):
        return tied(jax.tree.map(lambda w: w.astype(jnp.bfloat16), p), ids) * p["scale"].sum().astype(jnp.bfloat16)

    ids = jnp.arange(6)[None]
    q, state, int8 = ready(fn, "w4a8", params, ids, observer="minmax")
    assert set(int8.leaves) == {"scale"}
    # the table is the last layer's and the shared layer is also the first: 8 bits there, so 8 bits everywhere
    assert {k: int(jnp.asarray(w.bits)) for k, w in int8.weights.items()} == {"embed": 8, "shared": 8}
    np.testing.assert_array_equal(q.serve(int8, ids), q.simulate(params, state, ids))


def float_sizes(tree):
    return [x.size for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


@pytest.mark.parametrize("recipe", ["w8a8", "w8a8_dynamic", "w4"])
def test_the_converted_tree_has_no_float_copy_of_a_quantized_weight(recipe):
    params = {**mlp_params(), "unused": array(50, 50), "g": array(8)}

    def fn(p, x):
        return mlp({**p, "b": p["b"] * p["g"] / jnp.linalg.norm(p["b"], axis=0)}, x)

    _, _, int8 = ready(fn, recipe, params, array(5, 6))
    assert set(int8.leaves) == {"bias"}
    assert all(w.codes.dtype == jnp.int8 for w in int8.weights.values())
    assert max(float_sizes(int8)) <= 8  # a bias, or the scales of eight channels


def test_weight_only_reads_activations_in_float():
    params, x = mlp_params(), array(5, 6)
    q, state, int8 = ready(mlp, "w8", params, x)
    assert set(state.clips) == {"a", "b", "c"} and not int8.grids
    assert {s.activation_bits for s in q.sites(params, x)} == {None}
    dequantized = {k: params[k] if k == "bias" else int8.weights[k].codes * int8.weights[k].scale for k in params}
    # float32 sums in another order: the scale is multiplied in after the sum
    np.testing.assert_allclose(q.simulate(params, state, x), mlp(dequantized, x), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(q.simulate(params, state, 1000 * x) == 0, mlp(dequantized, 1000 * x) == 0)


def test_products_of_two_activations_stay_in_float_when_asked():
    q = qat.quantize(lambda p, x: (x @ p) @ (x @ p).T, qat.recipe("w8a8", products=False))
    reasons = [s.reason for s in q.sites(array(6, 8), array(5, 6))]
    assert reasons[:2] == [None, None] and "products=False" in str(reasons[2])


def test_observing_equals_calibrating_on_the_same_activations():
    """Also where sites share an activation, or one reads it on both sides."""
    params, batches = {"a": array(6, 4), "b": array(6, 4)}, [array(5, 6, seed=i) * (i + 1) for i in range(3)]

    def fn(p, x):
        return x @ p["a"], x @ p["b"], jnp.einsum("id,jd->ij", x, x)

    q = qat.quantize(fn, qat.recipe("w8a8", observer="ema(0.5)", edges="same"))
    state = q.calibrate(params, batches[:1])
    for x in batches[1:]:
        outputs, state = q.simulate(params, state, x, observe=True)
        for a, b in zip(outputs, q.simulate(params, state, x), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(q.calibrate(params, batches)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # one compiled program may round otherwise than another
