"""Bundles give back the very tree, in fewer arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.core.convert import SMALL, bundle, unbundle

TREE = {
    "scale": jnp.float32(0.1),
    "codes": jnp.arange(6, dtype=jnp.int8).reshape(2, 3),
    "half": [jnp.ones((2, 1, 2), jnp.bfloat16), jnp.zeros((0, 3), jnp.bfloat16)],
    "large": jnp.arange(SMALL + 1.0),
    "host": np.arange(4, dtype=np.int32),
    "key": jax.random.key(0),
    "none": None,
    "number": 3.5,
}


def numbers(x):
    is_key = jnp.issubdtype(jax.typeof(x).dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if is_key else x)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jax.typeof(x).dtype == jax.typeof(y).dtype
        assert jax.typeof(x).shape == jax.typeof(y).shape
        np.testing.assert_array_equal(numbers(x), numbers(y))


@pytest.mark.parametrize("jit", [False, True])
def test_a_bundle_gives_back_the_tree(jit):
    same((jax.jit(unbundle) if jit else unbundle)(bundle(TREE)), TREE)


def test_small_arrays_of_one_dtype_are_one_array():
    joined = bundle({str(i): jnp.full((i,), i, jnp.float32) for i in range(50)})
    assert len(jax.tree.leaves(joined)) == 1


def test_arrays_that_jax_traces_stay_as_they_are():
    def within(tree):
        assert not bundle(tree).joint
        return unbundle(bundle(tree))

    same(jax.jit(within)(TREE), TREE)


def test_bundles_of_equal_layout_share_a_compiled_function():
    traced = []
    run = jax.jit(lambda bundled: traced.append(bundled) or unbundle(bundled))
    for value in (1.0, 2.0):
        run(bundle({"a": jnp.full(3, value), "b": jnp.full((), value)}))
    assert len(traced) == 1


def test_a_bundle_made_while_jax_traces_outlives_the_trace():
    made = []
    outer = {"a": TREE["scale"], "b": TREE["codes"]}
    jax.jit(lambda x: made.append(bundle(outer)) or x)(1.0)
    same(unbundle(made[0]), outer)
