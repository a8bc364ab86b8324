"""The zoo is what it says: its models run, and hold the number of contractions read from their code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from often import slow_after
from zoo import ZOO
from zoo.count import contractions, count

SHAPES: list[tuple[int, int | None]] = [(2, None), (3, 9)]
each_model = pytest.mark.parametrize("name", ZOO)


@functools.cache
def jitted(name):
    return jax.jit(ZOO[name]().fn)


@functools.cache
def compiled(name, batch, length):
    """The model compiled without the costly optimizations, which matter to speed alone."""
    case = ZOO[name]()
    lowered = jitted(name).lower(case.params, *case.inputs(batch, length, 0))
    return lowered.compile({"xla_backend_optimization_level": 0})


@pytest.mark.parametrize("name", slow_after(24, ZOO))
def test_outputs_are_finite_at_two_shapes_under_jit(name):
    case = ZOO[name]()
    for shape in SHAPES:
        leaves = jax.tree.leaves(compiled(name, *shape)(case.params, *case.inputs(*shape, 2)))
        assert leaves
        for leaf in leaves:
            assert np.isfinite(leaf).all()


@each_model
def test_outputs_depend_on_the_inputs(name):
    case, shape = ZOO[name](), SHAPES[0]
    first, second = (compiled(name, *shape)(case.params, *case.inputs(*shape, seed)) for seed in (0, 1))
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


@each_model
def test_contractions_found_by_an_independent_walk_are_those_read_from_the_code(name):
    case = ZOO[name]()
    for shape in SHAPES:
        found = count(jitted(name), case.params, *case.inputs(*shape, 0))
        assert found["constant_lookup"] == case.constant_lookups
        assert found.total() - found["constant_lookup"] == case.contractions


@each_model
def test_inputs_vary_as_declared(name):
    case = ZOO[name]()
    shapes = [jax.tree.map(jnp.shape, case.inputs(*shape, 0)) for shape in ((2, 9), (2, 7), (3, 9))]
    assert case.name == name
    assert (shapes[0] != shapes[1]) == case.length_varies
    assert shapes[0] != shapes[2]


def test_bfloat16_models_keep_float32_parameters_and_return_bfloat16():
    for case in (build() for build in ZOO.values()):
        if case.dtype == jnp.bfloat16:
            assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(case.params))
            outputs = jax.eval_shape(case.fn, case.params, *case.inputs(2, None, 0))
            assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(outputs))


def test_the_walk_counts_bodies_once_and_calls_each_time():
    inner = jax.jit(lambda w, x: x @ w)

    def fn(w, x):
        x = inner(w, inner(w, x))
        x, _ = jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=3)
        x = jax.lax.while_loop(lambda c: jnp.vdot(c, c) < 1, lambda c: c @ w, x)
        return jax.lax.cond(x.sum() > 0, lambda x: x @ w, lambda x: x @ w @ w, x)

    assert contractions(fn, jnp.eye(2), jnp.ones((1, 2))) == 2 + 1 + 2 + 3


def test_the_walk_tells_lookups_by_inputs_from_other_gathers():
    def fn(table, ids, x):
        def step(token, _):
            row = table[token]
            return jnp.argmax(row, axis=-1), row

        return table[ids], table[jnp.array([0, 1])], x[ids], jax.lax.scan(step, ids, None, length=2)

    found = count(fn, jnp.eye(3), jnp.zeros(2, jnp.int32), jnp.ones((4, 3)))
    assert found == {"lookup": 2, "constant_lookup": 1}
