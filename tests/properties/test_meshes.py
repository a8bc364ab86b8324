"""Data over several devices, by `shard_map` and by explicitly sharded meshes: what one device gives."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import qat

ROOT = Path(__file__).parents[2]
KEYS = jax.random.split(jax.random.key(0), 5)
X = jax.random.normal(KEYS[0], (8, 4, 4, 4))
PARAMS = {
    "conv": jax.random.normal(KEYS[1], (3, 3, 4, 16)) / 6,
    "bias": jnp.linspace(-0.5, 0.5, 16),
    "table": jax.random.normal(KEYS[2], (6, 16)),
    "layers": jax.random.normal(KEYS[3], (2, 16, 16)) / 4,
    "head": jax.random.normal(KEYS[4], (16, 3)) / 4,
}
VALUE = 1e-6  # of the largest: float parts compiled for other shapes
GRADIENT = 1e-5  # of the largest: sums over the batch in another order


def net(params, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(x, params["conv"], (1, 1), "SAME", dimension_numbers=numbers)
    h = jnp.tanh(h + params["bias"]).mean((1, 2))
    h = h + params["table"].at[(jnp.abs(x[:, 0, 0, 0]) * 2).astype(jnp.int32)].get(out_sharding=jax.typeof(h).sharding)
    h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, params["layers"])
    return h @ params["head"] + h[:, :3].max(-1, keepdims=True)


def squared(q, state, x, params, learned=None):
    return (q.simulate(params, state, x) ** 2).sum()


def assert_close(found, expected, share=GRADIENT):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=share * np.abs(b).max())


def shards(fn, mesh, **specs):
    return jax.jit(jax.shard_map(fn, mesh=mesh, **specs))


def in_shard_map(recipe):
    q = qat.quantize(net, qat.recipe(recipe))
    state = q.calibrate(PARAMS, [X])
    int8 = q.convert(PARAMS, state, X)
    one, slope = q.simulate(PARAMS, state, X), jax.grad(partial(squared, q, state, X))(PARAMS)
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
        x = jax.device_put(X, NamedSharding(mesh, P("d")))
        simulate = shards(q.simulate, mesh, in_specs=(P(), P(), P("d")), out_specs=P("d"))
        simulated = simulate(PARAMS, state, x)
        assert_close(simulated, one, VALUE)
        serve = shards(q.serve, mesh, in_specs=(P(), P("d")), out_specs=P("d"))
        np.testing.assert_array_equal(serve(int8, x), simulated)
        inside = shards(
            lambda p, x: jax.grad(partial(squared, q, state, x))(p), mesh, in_specs=(P(), P("d")), out_specs=P()
        )
        with jax.set_mesh(mesh):
            outside = jax.grad(lambda p, s=simulate, x=x: (s(p, state, x) ** 2).sum())(PARAMS)
            assert_close(outside, slope)
            assert_close(inside(PARAMS, x), slope)


def on_an_explicit_mesh(recipe):
    q = qat.quantize(net, qat.recipe(recipe))
    state = q.calibrate(PARAMS, [X])
    int8, one = q.convert(PARAMS, state, X), q.simulate(PARAMS, state, X)
    mesh = jax.make_mesh((4,), ("d",))
    assert mesh.axis_types == (AxisType.Explicit,)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, P("d"))
        simulated = q.simulate(PARAMS, state, x)
        assert_close(simulated, one, VALUE)
        np.testing.assert_array_equal(q.serve(int8, x), simulated)
        assert_close(
            jax.jit(jax.grad(partial(squared, q, state, x)))(PARAMS), jax.grad(partial(squared, q, state, X))(PARAMS)
        )
        assert len(q.sites(PARAMS, x)) == len(q.sites(PARAMS, X))
        for observer in ("minmax", "mse", "histogram", "percentile(99.9)"):
            observing = qat.quantize(net, qat.recipe(f"w8a8(observer={observer!r})"))
            clips = [observing.calibrate(PARAMS, [data, 3 * data]).clips for data in (x, X)]
            assert_close(clips[0], clips[1])


CASES = [(in_shard_map, "w8a8"), (in_shard_map, "w4a4(quantizer='lsq')"), (on_an_explicit_mesh, "w8a8")]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{fn.__name__}-{recipe}" for fn, recipe in CASES])
def test_four_devices_give_what_one_does(case):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", f"from test_meshes import CASES; fn, recipe = CASES[{case}]; fn(recipe)"],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_inside_shard_map_sites_are_those_outside():
    q = qat.quantize(net, qat.recipe("w8a8"))
    mesh, found = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,)), []

    def look(params, x):
        found.append([(s.id, s.operands, s.reason) for s in q.sites(params, x)])
        return x

    jax.eval_shape(jax.shard_map(look, mesh=mesh, in_specs=(P(), P("d")), out_specs=P("d")), PARAMS, X)
    assert found == [[(s.id, s.operands, s.reason) for s in q.sites(PARAMS, X)]]


def test_a_bias_and_gradients_pass_the_checks_of_shard_map():
    def dense(params, x):
        return jnp.tanh(x @ params["layers"][0] + params["bias"])

    x = jax.random.normal(KEYS[0], (4, 16))
    q = qat.quantize(dense, qat.recipe("w8a8"))
    state = q.calibrate(PARAMS, [x])
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))

    def slope(params, x):
        return jax.grad(partial(squared, q, state, x))(params)

    inside = shards(slope, mesh, in_specs=(P(), P("d")), out_specs=P())
    for name in ("layers", "bias"):
        assert_close(inside(PARAMS, x)[name], slope(PARAMS, x)[name])
