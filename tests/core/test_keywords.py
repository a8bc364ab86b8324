"""Keyword arguments of a quantized function: arrays are traced, constants belong to what is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import qat
from qat.transform import _simulate

RECIPE = qat.recipe("w8a8", edges="same")


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def compiled(jitted) -> int:
    """How many programs a jitted function has compiled."""
    return jitted._cache_size()


def fn(w, x, *, shift=None, train=False, mode="plain"):
    y = x @ w
    y = y if shift is None else y + shift["by"]
    return (y if train else jax.nn.relu(y)) * (2 if mode == "twice" else 1)


X, W, SHIFT = array(4, 6), array(6, 3, seed=1), {"by": array(3, seed=2)}
KEYWORDS = {
    "none": {},
    "flag": {"train": True},
    "text": {"mode": "twice"},
    "arrays": {"shift": SHIFT},
    "both": {"shift": SHIFT, "train": True, "mode": "twice"},
}


@pytest.mark.parametrize("case", KEYWORDS)
def test_keywords_reach_the_function_in_every_use(case):
    q, keywords = qat.quantize(fn, RECIPE), KEYWORDS[case]
    assert [site.id for site in q.sites(W, X, **keywords)] == [site.id for site in q.sites(W, X)]
    state = q.calibrate(W, [X, (X,)], **keywords)
    simulated = q.simulate(W, state, X, **keywords)
    np.testing.assert_allclose(simulated, fn(W, X, **keywords), atol=0.1)  # 8 bits
    np.testing.assert_array_equal(q.serve(q.convert(W, state, X, **keywords), X, **keywords), simulated)
    observed, after = q.simulate(W, state, X, observe=True, **keywords)
    np.testing.assert_array_equal(observed, simulated)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_constants_compile_once_each_and_arrays_are_data():
    q = qat.quantize(lambda w, x, **keywords: fn(w, x, **keywords), RECIPE)
    state = q.calibrate(W, [X])
    before = compiled(_simulate)
    for shift in (1.0, 2.0, 3.0):
        for train in (True, False):
            q.simulate(W, state, X, shift={"by": jnp.full(3, shift)}, train=train)
    assert compiled(_simulate) == before + 2


def test_an_array_by_keyword_is_differentiated():
    q = qat.quantize(fn, RECIPE)
    state = q.calibrate(W, [X])
    g = jax.grad(lambda shift: q.simulate(W, state, X, shift=shift, train=True).sum())(SHIFT)
    np.testing.assert_array_equal(g["by"], np.full(3, 4.0))


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x)))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def test_a_linen_model_takes_its_flags_and_keys_by_keyword():
    model = Dropped()
    variables = model.init(jax.random.key(0), X, train=False)
    q = qat.quantize(model.apply, RECIPE)
    state = q.calibrate(variables, [X], train=False)
    exact: Any = model.apply(variables, X, train=False)
    np.testing.assert_allclose(q.simulate(variables, state, X, train=False), exact, atol=0.05)
    keywords = {"train": True, "rngs": {"dropout": jax.random.key(1)}, "mutable": "batch_stats"}
    (y, updated), (exact, right) = q.simulate(variables, state, X, **keywords), model.apply(variables, X, **keywords)
    np.testing.assert_allclose(y, exact, atol=0.1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.05), updated, right)
