"""Values that a program reads again in other forms, against float: random programs, and the smallest that went wrong.

That simulating equals serving does not show that both are right, so each result is held against the float one too.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from often import slow_after

import qat
from qat.analysis import layer_statistics

RECIPE = qat.recipe("w8a8", edges="same")
CLOSE = 0.05  # of a result's norm: 8 bits of both factors and bfloat16 come to 0.03, another layout to about 1


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def assert_right(fn, params, *inputs, recipe=RECIPE):
    """All sites are quantized, and results simulated, served and in float agree."""
    q = qat.quantize(fn, recipe)
    assert not [site.reason for site in q.sites(params, *inputs) if site.reason]
    state = q.calibrate(params, [inputs])
    simulated, exact = q.simulate(params, state, *inputs), jax.jit(fn)(params, *inputs)
    jax.tree.map(np.testing.assert_array_equal, simulated, q.serve(q.convert(params, state, *inputs), *inputs))
    for (path, found), right in zip(jax.tree.leaves_with_path(simulated), jax.tree.leaves(exact), strict=True):
        assert found.shape == right.shape, path
        found, right = (np.asarray(y, np.float32) for y in (found, right))
        norm = max(np.linalg.norm(right), np.sqrt(right.size))  # a sum of few numbers near 1 may come out small
        assert np.linalg.norm(found - right) <= CLOSE * norm, (path, found, right)


def reshaped(rng, x):
    """The same values with the sizes of their axes cut and joined anew."""
    factors = [f for n in x.shape for f in ([2, n // 2] if n % 2 == 0 else [n])]
    cuts = sorted(rng.choice(len(factors) + 1, rng.integers(0, 3)))
    return x.reshape([int(np.prod(factors[a:b])) for a, b in itertools.pairwise([0, *cuts, len(factors)])])


def sliced(rng, x):
    axis = rng.integers(x.ndim)
    return jax.lax.slice_in_dim(x, rng.integers(x.shape[axis] // 2 + 1), None, rng.integers(1, 3), axis)


def repeated(rng, x):
    axis = rng.integers(x.ndim + 1)
    shape = (*x.shape[:axis], rng.integers(1, 3), *x.shape[axis:])
    return jax.lax.broadcast_in_dim(x, shape, [i for i in range(len(shape)) if i != axis])


FORMS = {
    "reshape": reshaped,
    "squeeze": lambda rng, x: x.squeeze(),
    "transpose": lambda rng, x: x.transpose(rng.permutation(x.ndim)),
    "slice": sliced,
    "broadcast": repeated,
    "cast": lambda rng, x: x.astype(rng.choice([jnp.bfloat16, jnp.float32])),
    "flip": lambda rng, x: jnp.flip(x, rng.integers(x.ndim)),
    "jit": lambda rng, x: jax.jit(lambda x: x.reshape(-1, x.shape[-1]))(x),
    "remat": lambda rng, x: jax.checkpoint(lambda x: x.reshape(x.shape[0], -1))(x),
}


def dense(x, w, axis):
    return jax.lax.dot_general(x, w, (([axis], [0]), ([], [])))


def in_a_loop(x, w, axis):
    """The same for one slice after the other, each read in two shapes."""
    rows = jnp.moveaxis(x, axis, -1)[None] if x.ndim == 1 else jnp.moveaxis(x, axis, -1)
    return jax.lax.scan(lambda _, row: (None, (row @ w, row[None] @ w)), None, rows)[1]


def with_itself(x, w, axis):
    del w
    return jax.lax.dot_general(x, x, (([axis], [axis]), ([], [])))


def program(seed, x, weights):
    """A random program's results: it makes some forms of `x`, and reads those and `x` itself in products."""
    rng, forms, results = np.random.default_rng(seed), [x], {}
    for step, w in enumerate(weights):
        x = forms[rng.integers(len(forms))]
        name = rng.choice([*FORMS])
        forms += [FORMS[name](rng, x)] if 0 < x.ndim < 4 else []
        x = forms[rng.integers(len(forms))]
        product = (dense, in_a_loop, with_itself)[rng.choice(3, p=[0.7, 0.15, 0.15])]
        axis = rng.integers(x.ndim)
        results[f"{step} {name} {product.__name__}"] = product(x, w[: x.shape[axis]].astype(x.dtype), axis)
    return results


@pytest.mark.parametrize("group", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_programs_that_read_values_again_in_other_forms_come_near_float(group):
    seeds = range(6 * group, 6 * group + 6)
    shapes = [np.random.default_rng(seed).choice([2, 4, 6], 1 + seed % 3) for seed in seeds]
    xs = [array(*shape, seed=seed) for shape, seed in zip(shapes, seeds, strict=True)]
    weights = [[array(216, 3, seed=100 * seed + i) for i in range(4)] for seed in seeds]

    def programs(weights, *xs):
        return {seed: program(seed, *args) for seed, *args in zip(seeds, xs, weights, strict=True)}

    assert_right(programs, weights, *xs)


def router(p, x):
    """A mixture of experts' scores of flattened tokens, beside a layer on the tokens as they are."""
    return x @ p["expert"], x.reshape(-1, 4) @ p["router"]


def conv_beside_dense(p, x):
    conv = jax.lax.conv_general_dilated(x, p["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return conv, x.reshape(len(x), -1) @ p["dense"]


def rows_in_pairs(p, x):
    """The wrong shape's product is one too: it gave (2, 6) for (4, 6)."""
    return x.reshape(2, 4, 4) @ p["expert"], jnp.einsum("...i,ij->...j", x, p["expert"].T)


READERS = {
    "with an axis more": (lambda p, x: (x @ p["expert"], x[None] @ p["expert"]), (2, 4)),
    "router": (router, (2, 3, 4)),
    "conv beside dense": (conv_beside_dense, (2, 3, 3, 4)),
    "rows in pairs": (rows_in_pairs, (8, 4)),
    "both sides": (lambda p, x: jnp.einsum("ab,cb->ac", x.reshape(4, 2), x.reshape(2, 2, 2)[0]), (2, 4)),
}
PARAMS = {"expert": array(4, 4, seed=1), "router": array(4, 2, seed=2), "conv": array(3, 3, 4, 5, seed=3)}
PARAMS |= {"dense": array(36, 6, seed=4)}
XS = {name: array(*shape, seed=5 + i) for i, (name, (_, shape)) in enumerate(READERS.items())}


def all_readers(p, xs):
    return {name: fn(p, xs[name]) for name, (fn, _) in READERS.items()}


@pytest.mark.parametrize("recipe", slow_after(1, ["w8a8", "w8a8(quantizer='lsq')"]))
def test_an_activation_read_in_two_shapes_is_quantized_in_each(recipe):
    assert_right(all_readers, PARAMS, XS, recipe=qat.recipe(recipe, edges="same"))


def test_an_activation_read_in_two_shapes_learns_from_both_and_has_one_range():
    q = qat.quantize(router, RECIPE)
    x = array(2, 3, 4)
    state = q.calibrate(PARAMS, [1.1 * x])
    assert sum("lhs" in key for key in state.clips) == 1

    def gradients(fn):
        return jax.grad(lambda p, x: sum(y.sum() for y in fn(p, x)), argnums=(0, 1))(PARAMS, x)

    found, exact = gradients(lambda p, x: q.simulate(p, state, x)), gradients(router)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.05), found, exact)  # 8 bits
    observed, _ = q.simulate(PARAMS, state, x, observe=True)  # of values within the range
    jax.tree.map(np.testing.assert_array_equal, observed, q.simulate(PARAMS, state, x))
    layers = layer_statistics(q, PARAMS, state, [x])
    assert all((layer.output_sqnr_db or 0) > 30 for layer in layers.sites)
