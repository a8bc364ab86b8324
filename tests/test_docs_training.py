"""The documentation's training loops run as they stand, train, and serve what they trained."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import qat

PAGE = Path(__file__).parent.parent / "docs" / "start" / "training.md"


def blocks():
    """The code of the page on training: a Linen loop, and an NNX one that goes on from its names."""
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def loops():
    names: dict = {}
    made = []
    for code in blocks():
        exec(compile(code, PAGE.name, "exec"), names)
        made.append(dict(names))
    return made


@pytest.mark.parametrize(("number", "rest"), [(0, "stats"), (1, "rest")], ids=["linen", "nnx"])
def test_the_loops_train_and_serve_what_they_trained(loops, number, rest):
    names = loops[number]
    value, q, params, state, x = (names[name] for name in ("value", "q", "params", "state", "x"))
    assert value < 1.9  # from log(10) = 2.3
    simulated, _ = q.simulate(params, state, names[rest], x)
    np.testing.assert_array_equal(names["logits"], simulated)
    start = q.calibrate(params, [(names[rest], x)]).learned  # the steps are not those of calibration any more
    assert all(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (start, state.learned)), strict=True))
    means = [leaf for path, leaf in jax.tree.leaves_with_path(names[rest]) if "mean" in jax.tree_util.keystr(path)]
    assert means and all(np.any(np.asarray(mean) != 0) for mean in means)


def test_counts_and_keys_among_the_parameters_pass_through():
    """All of an NNX model's state as the parameters: what is no float has no gradient, and is served as it is."""
    net = nnx.Sequential(nnx.Linear(4, 6, rngs=nnx.Rngs(0)), nnx.BatchNorm(6, rngs=nnx.Rngs(1)),
                         nnx.Dropout(0.5, rngs=nnx.Rngs(2)), nnx.Linear(6, 3, rngs=nnx.Rngs(3)))  # fmt: skip
    graph, state = nnx.split(net)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 4)), jnp.float32)

    def fn(state, x):
        net = nnx.merge(graph, state)
        return net(x), nnx.state(net)

    q = qat.quantize(fn, qat.recipe("w8a8"))
    ranges = q.calibrate(state, [x])
    (y, after), (exact, right) = q.simulate(state, ranges, x), jax.jit(fn)(state, x)
    np.testing.assert_allclose(y, exact, atol=0.1)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), right)
    served, _ = q.serve(q.convert(state, ranges, x), x)
    np.testing.assert_array_equal(served, y)
    grads = jax.grad(lambda state: q.simulate(state, ranges, x)[0].sum(), allow_int=True)(state)
    for leaf, gradient in zip(jax.tree.leaves(state), jax.tree.leaves(grads), strict=True):
        assert gradient.dtype == (leaf.dtype if leaf.dtype == jnp.float32 else jax.dtypes.float0)
