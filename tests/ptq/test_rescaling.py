"""Channels scaled between layers leave the float function as it is; what cannot be scaled is named."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import MODELS, batches_of, variables_of

from qat import ptq, quantize, recipe
from qat.core.plan import make_plan
from qat.ptq.equalize import equalize
from qat.ptq.rescaling import largest, pairs_of
from qat.ptq.smooth import smooth

RULES = recipe("w4a4(edges='same', observer='minmax')")
PAIRS = {
    "cnn": {"depthwise:conv:0", "project:conv:0", "head:dot_general:0"},
    "transformer": {
        "attention/query:dot_general:0",
        "attention/key:dot_general:0",
        "attention/value:dot_general:0",
        "up:dot_general:0",
        "down:dot_general:0",
    },
}
LEFT = {
    "cnn": {"expand:conv:0": "it reads an input of the function"},
    "transformer": {
        "attention/out:dot_general:0": "it contracts several axes",
        "head:dot_general:0": "it reads an input of the function",
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_the_float_function_stays_whatever_the_factors(name):
    net, variables, x = MODELS[name], variables_of(name), batches_of(name)[0]
    pairs, left = pairs_of(make_plan(net.apply, RULES, variables, (x,)), variables)
    prefix = f"{type(net).__name__}/"
    assert {site for pair in pairs for site in pair.readers} == {prefix + site for site in PAIRS[name]}
    assert left == {prefix + site: why for site, why in LEFT[name].items()}
    exact = net.apply(variables, x)
    for number, pair in enumerate(pairs):
        leaf, axis = pair.up[0]
        channels = jax.tree.leaves(variables)[leaf].shape[axis]
        scaled = pair.scaled(variables, np.exp(np.random.default_rng(number).normal(size=channels)))
        assert jnp.allclose(net.apply(scaled, x), exact, rtol=1e-5, atol=1e-5)
        one_way = pair.scaled(variables, np.ones(channels))
        assert jnp.array_equal(net.apply(one_way, x), exact)


def layers(between):
    """Two layers with something between them."""
    return lambda p, x: between(x @ p["a"] + p["b"], p) @ p["c"]


OTHERS = {
    "a square": (lambda h, p: h * h, "`mul` meets these channels twice"),
    "gated by itself": (lambda h, p: h * jax.nn.relu(h), "`mul` meets these channels twice"),
    "swish": (lambda h, p: jax.nn.silu(h), "`logistic` reads these channels too|before it is"),
    "gelu": (lambda h, p: jax.nn.gelu(h), "."),
    "clipped": (lambda h, p: jnp.clip(h, 0, 6), "with another bound than zero"),
    "softmax": (lambda h, p: jax.nn.softmax(h), "."),
    "shifted": (lambda h, p: jax.nn.relu(h) + 1.0, "a parameter there is computed"),
    "a bias of two": (lambda h, p: jax.nn.relu(h) + p["b"], "read elsewhere"),
    "across channels": (lambda h, p: h - h.mean(-1, keepdims=True), "."),
    "reversed": (lambda h, p: h[:, ::-1], "before it is `rev`"),
    "a weight of two": (lambda h, p: jax.nn.relu(h) @ p["c"], "read elsewhere"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_scaled_is_left_with_the_reason(name):
    between, why = OTHERS[name]
    fn = layers(between)
    keys = jax.random.split(jax.random.key(0), 4)
    params = {k: jax.random.normal(key, (4, 4)) for k, key in zip("ac", keys, strict=False)} | {"b": jnp.ones(4)}
    x = jax.random.normal(keys[3], (8, 4))
    pairs, left = pairs_of(make_plan(fn, RULES, params, (x,)), params)
    assert pairs == []
    assert any(re.search(why, reason) for reason in left.values()), left
    q = quantize(fn, RULES)
    for method in ("equalize", "smooth"):
        with pytest.raises(ValueError, match=f"`{method}`: (no two layers|there is no norm)"):
            ptq.apply((method,), q, params, q.calibrate(params, [x]), [x])


def test_equalized_layers_have_equal_ranges_and_lose_less():
    keys = jax.random.split(jax.random.key(0), 3)
    uneven = jnp.array([100.0, 10.0, 1.0, 0.1] * 4)
    params = {
        "a": jax.random.normal(keys[0], (8, 16)) * uneven,
        "b": jnp.zeros(16),
        "c": jax.random.normal(keys[1], (16, 4)) / uneven[:, None],
    }
    fn = layers(lambda h, p: jax.nn.relu(h))
    q, x = quantize(fn, RULES), jax.random.normal(keys[2], (64, 8))
    state = q.calibrate(params, [x])
    found = ptq.apply(("equalize",), q, params, state, [x])
    leaves = jax.tree.leaves(found.params)
    assert np.allclose(largest(leaves, (0, 1)), largest(leaves, (2, 0)), rtol=1e-3)
    exact = fn(params, x)
    before, after = (
        float(jnp.abs(q.simulate(p, s, x) - exact).mean()) for p, s in ((params, state), (found.params, found.state))
    )
    assert after < 0.5 * before
    assert jnp.allclose(fn(found.params, x), exact, rtol=1e-5, atol=1e-4)


def test_a_dead_channel_is_left_alone():
    params = {"a": jnp.eye(4).at[:, 2].set(0.0), "b": jnp.zeros(4), "c": 3 * jnp.eye(4)}
    fn = layers(lambda h, p: jax.nn.relu(h))
    q, x = quantize(fn, RULES), jnp.abs(jax.random.normal(jax.random.key(0), (8, 4)))
    found = ptq.apply(("equalize",), q, params, q.calibrate(params, [x]), [x])
    assert float(found.params["c"][2, 2]) == 3.0
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found.params))


def test_smoothed_outliers_lose_less_and_the_best_exponent_is_no_worse_than_any():
    variables, batches = variables_of("transformer"), batches_of("transformer")
    scale = variables["params"]["ln2"]["scale"]
    far = jnp.where(jnp.arange(8) == 3, 60.0, 1.0)
    variables["params"]["ln2"]["scale"] = scale * far
    variables["params"]["up"]["kernel"] = variables["params"]["up"]["kernel"] / far[:, None]
    net = MODELS["transformer"]
    q = quantize(net.apply, RULES)
    state = q.calibrate(variables, batches)
    exact = net.apply(variables, batches[0])

    def error(text):
        found = ptq.apply((text,), q, variables, state, batches)
        assert jnp.allclose(net.apply(found.params, batches[0]), exact, rtol=1e-4, atol=1e-4)
        return float(jnp.abs(q.simulate(found.params, found.state, batches[0]) - exact).mean()), found.steps[0]

    plain = float(jnp.abs(q.simulate(variables, state, batches[0]) - exact).mean())
    searched, step = error("smooth")
    assert searched < plain
    assert "Block/up:dot_general:0" in step.changed
    assert step.left["Block/down:dot_general:0"] == "a layer, not a norm, stands before it"
    assert 0 < step.figures["exponent of Block/up:dot_general:0"] < 1
    fixed, step = error("smooth(exponent=0.5)")
    assert fixed < plain
    assert set(step.figures.values()) == {0.5}


def test_settings_out_of_range_are_refused():
    for build, said in (
        (lambda: smooth(exponent=1.5), "`exponent` must be in"),
        (lambda: smooth(candidates=0), "`candidates` must be at least 1"),
        (lambda: equalize(sweeps=0), "`sweeps` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            build()
