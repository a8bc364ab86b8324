"""`simulate` and `serve` are JAX functions: they go through jit, grad, vmap, loops, modules and sharding."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import qat

RECIPE = qat.recipe("w8a8", edges="same")


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def fn(p, x):
    return jax.nn.relu(x @ p["a"] + p["bias"]) @ p["b"]


X, PARAMS = array(4, 6), {"a": array(6, 8), "bias": array(8), "b": array(8, 3)}
Q = qat.quantize(fn, RECIPE)
STATE = Q.calibrate(PARAMS, [X])
INT8 = Q.convert(PARAMS, STATE, X)
Y = np.asarray(Q.simulate(PARAMS, STATE, X))


def loss(params, state=STATE, x=X):
    return jnp.square(Q.simulate(params, state, x)).sum()


def over_rows(run):
    """One row at a time, by a scan whose carry counts."""
    return jax.lax.scan(lambda n, x: (n + 1, run(x[None])[0]), 0, X)[1]


WAYS = {
    "jit": lambda run: jax.jit(run)(X),
    "vmap": lambda run: jax.vmap(lambda x: run(x[None])[0])(X),
    "map": lambda run: jax.lax.map(lambda x: run(x[None])[0], X),
    "scan": over_rows,
    "remat": lambda run: jax.jit(jax.checkpoint(run))(X),
    "cond": lambda run: jax.lax.cond(X[0, 0] < 9, run, lambda x: jnp.zeros((4, 3)), X),
}


@pytest.mark.parametrize("mode", ["simulate", "serve"])
@pytest.mark.parametrize("way", WAYS)
def test_the_result_is_the_same_bit_for_bit_within(way, mode):
    run = (lambda x: Q.simulate(PARAMS, STATE, x)) if mode == "simulate" else (lambda x: Q.serve(INT8, x))
    np.testing.assert_array_equal(WAYS[way](run), Y)


def test_a_gradient_is_the_same_in_every_transformation():
    want = jax.grad(loss)(PARAMS)
    per_row = jax.vmap(jax.grad(lambda p, x: loss(p, STATE, x[None])), (None, 0))
    others = {
        "jit": jax.jit(jax.value_and_grad(loss))(PARAMS)[1],
        "remat": jax.jit(jax.grad(jax.checkpoint(loss)))(PARAMS),
        "rows": jax.jit(lambda p: jax.tree.map(lambda g: g.sum(0), per_row(p, X)))(PARAMS),
    }
    for name, got in others.items():
        for key, g in want.items():  # float32 sums in another order
            np.testing.assert_allclose(got[key], g, rtol=1e-5, atol=1e-4, err_msg=f"{name} {key}")


def test_the_gradient_is_that_of_fake_quantization_to_parameters_and_inputs():
    def fake(x, clip, symmetric):
        scale = (jnp.maximum(-clip.low, clip.high) / 127) if symmetric else (clip.high - clip.low) / 255
        low, high = (-127, 127) if symmetric else (jnp.round(clip.low / scale), jnp.round(clip.low / scale) + 255)
        steps = jnp.where(
            (x / scale >= low - 1e-3) & (x / scale <= high + 1e-3), x / scale, jnp.clip(x / scale, low, high)
        )
        return (steps + jax.lax.stop_gradient(jnp.round(steps) - steps)) * scale

    def reference(p, x):
        h = fake(x, clips["a:dot_general:0/lhs"], False) @ fake(p["a"], clips["a"], True) + p["bias"]
        return fake(jax.nn.relu(h), clips["b:dot_general:0/lhs"], False) @ fake(p["b"], clips["b"], True)

    clips = STATE.clips
    want = jax.jit(jax.grad(lambda p, x: jnp.square(reference(p, x)).sum(), (0, 1)))(PARAMS, X)
    got = jax.jit(jax.grad(lambda p, x: loss(p, STATE, x), (0, 1)))(PARAMS, X)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        # float32, and a value rounded to its neighbour here and there, as the reference divides by the scale
        np.testing.assert_allclose(a, b, atol=0.01 * float(jnp.abs(b).max()))


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x, served):
        h = nn.Dense(6, name="before")(x)
        if served:
            return Q.serve(self.variable("quantized", "int8", lambda: INT8).value, h)
        return Q.simulate(self.param("inner", lambda _: PARAMS), STATE, h)


def test_within_a_flax_module():
    before = {"kernel": jnp.eye(6), "bias": jnp.zeros(6)}
    simulated = Outer().apply({"params": {"before": before, "inner": PARAMS}}, X, False)
    served = Outer().apply({"params": {"before": before}, "quantized": {"int8": INT8}}, X, True)
    np.testing.assert_array_equal(simulated, Y)
    np.testing.assert_array_equal(served, Y)


def test_a_function_that_closes_over_traced_values_leaks_none():
    def at(factor):
        own = qat.quantize(lambda p, x: fn(p, x) * factor, RECIPE)
        simulated = jax.lax.map(lambda x: own.simulate(PARAMS, STATE, x[None]), X)
        return simulated.sum() + own.serve(own.convert(PARAMS, STATE, X), X).sum()

    total = float(Y.sum())
    np.testing.assert_allclose(jax.grad(at)(2.0), 2 * total, rtol=1e-5)  # float32 sums
    np.testing.assert_allclose(jax.jit(at)(3.0), 6 * total, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(at))(jnp.array([4.0, 1.0])), [8 * total, 2 * total], rtol=1e-5)


def test_shapes_are_known_without_computing():
    params, x = jax.eval_shape(lambda: (PARAMS, X))
    assert jax.eval_shape(Q.simulate, params, STATE, x).shape == (4, 3)
    int8 = jax.eval_shape(Q.convert, params, STATE, x)
    assert int8.weights["a"].codes.dtype == jnp.int8
    assert jax.eval_shape(Q.serve, int8, x).shape == (4, 3)
    assert [s.id for s in Q.sites(params, x)] == [s.id for s in Q.sites(PARAMS, X)]


def test_arguments_may_be_donated():
    step = jax.jit(lambda p: jax.tree.map(lambda p, g: p - 1e-3 * g, p, jax.grad(loss)(p)), donate_argnums=0)
    params = jax.tree.map(jnp.copy, PARAMS)
    kept = params["a"]
    assert float(loss(step(params))) < float(loss(PARAMS))
    assert kept.is_deleted()


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_an_ensemble_is_a_vmap_over_parameters_and_states():
    members = [jax.tree.map(lambda p, n=n: p * (1 + n), PARAMS) for n in range(2)]
    states = [Q.calibrate(p, [X]) for p in members]
    outputs = [Q.simulate(p, s, X) for p, s in zip(members, states, strict=True)]
    together = jax.vmap(Q.simulate, (0, 0, None))(stacked(*members), stacked(*states), X)
    np.testing.assert_array_equal(together, outputs)
    int8 = stacked(*(Q.convert(p, s, X) for p, s in zip(members, states, strict=True)))
    np.testing.assert_array_equal(jax.vmap(Q.serve, (0, None))(int8, X), outputs)


def test_mapping_over_states_of_other_bit_widths_equals_a_loop_bit_for_bit():
    recipes = [qat.recipe(name, edges="same", observer="minmax") for name in ("w8a8", "w4a8", "w2a4")]
    states = [qat.quantize(fn, r).calibrate(PARAMS, [X]) for r in recipes]
    step = jax.jit(jax.value_and_grad(loss))
    looped = stacked(*(step(PARAMS, s) for s in states))
    mapped = jax.jit(lambda s: jax.lax.map(lambda s: jax.value_and_grad(loss)(PARAMS, s), s))(stacked(*states))
    for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(looped), strict=True):
        np.testing.assert_array_equal(a, b)


def run_python(code, **environment):
    code = "import jax, jax.numpy as jnp, numpy as np, qat\nfrom test_composition import *\n" + textwrap.dedent(code)
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, [here, here.parent / "support", here.parents[1]]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_batch_sharded_over_four_devices_gives_the_result_of_one():
    run_python(
        """
        mesh = jax.sharding.Mesh(np.array(jax.devices()), "batch")
        x = jax.device_put(X, jax.NamedSharding(mesh, jax.P("batch")))
        whole = jax.NamedSharding(mesh, jax.P())
        params, state, int8 = jax.device_put((PARAMS, STATE, INT8), whole)
        y = Q.serve(int8, x)
        assert len(y.sharding.device_set) == 4, y.sharding
        np.testing.assert_array_equal(y, Y)
        np.testing.assert_array_equal(Q.simulate(params, state, x), Y)
        g = jax.jit(jax.grad(loss))
        got, want = g(params, state, x), g(PARAMS, STATE, X)
        for key in want:  # float32 sums over the batch in another order
            np.testing.assert_allclose(got[key], want[key], rtol=1e-5, atol=1e-4)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )


def test_with_64_bit_types_enabled():
    with jax.enable_x64(True):
        np.testing.assert_array_equal(Q.serve(INT8, X), Y)
        q = qat.quantize(lambda p, x: fn(p, x) * jnp.arange(3.0), qat.recipe("w4a4", observer="ema"))
        state = q.calibrate(PARAMS, [X, X])
        step = jax.jit(jax.value_and_grad(lambda p: q.simulate(p, state, X).sum()))
        y, g = step(PARAMS)
        served = q.serve(q.convert(PARAMS, state, X), X)
        assert (y.dtype, g["a"].dtype, served.dtype) == (jnp.float64, jnp.float32, jnp.float64)
        np.testing.assert_allclose(y, served.sum(), rtol=1e-12)
    assert qat.quantize(q.fn, q.recipe).simulate(PARAMS, state, X).dtype == jnp.float32
