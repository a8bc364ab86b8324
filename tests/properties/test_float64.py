"""Functions of float64: quantized in float32, said in the table, served as simulated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from often import slow_after

import qat

RNG = np.random.default_rng(0)
PARAMS = {"e": RNG.normal(size=(9, 8)), "w": RNG.normal(size=(8, 8)) / 3, "c": RNG.normal(size=(3, 8, 4)) / 5}
IDS = RNG.integers(0, 9, (2, 6))
ERROR = 0.04  # of the largest output: 8 bits through three layers


def net(params, ids):
    h = jnp.tanh(params["e"][ids] @ params["w"])
    h = jax.lax.conv_general_dilated(h, params["c"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    return jnp.einsum("bti,btj->bij", h, h)


@pytest.mark.parametrize("recipe", slow_after(2, ["w8a8", "w8a8_dynamic", "w8", "w8a8(products=False)"]))
def test_float64_is_served_as_simulated_and_stays_float64_outside_of_sites(recipe):
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        q = qat.quantize(net, qat.recipe(recipe))
        with jax.disable_jit():
            state = q.calibrate(params, [IDS])
        simulated, exact = q.simulate(params, state, IDS), net(params, IDS)
        assert simulated.dtype == exact.dtype == jnp.float64
        np.testing.assert_array_equal(q.serve(q.convert(params, state, IDS), IDS), simulated)
        assert np.abs(simulated - exact).max() < ERROR * np.abs(exact).max()


def slope(dtype):
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
    q = qat.quantize(net, qat.recipe("w8a8"))
    with jax.disable_jit():
        state = q.calibrate(params, [IDS])
    return jax.jit(jax.grad(lambda p: (q.simulate(p, state, IDS) ** 2).sum()))(params)


def test_gradients_of_float64_are_float64_and_those_of_float32():
    single = slope(jnp.float32)
    with jax.enable_x64(True):
        for name, g in slope(jnp.float64).items():
            assert g.dtype == jnp.float64
            assert np.abs(g - single[name]).max() < 1e-5 * np.abs(single[name]).max()


def test_the_table_names_the_sites_that_compute_in_float32():
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        sites = qat.quantize(net, qat.recipe("w8a8")).sites(params, IDS)
        assert all(s.reason is None and s.narrowed for s in sites)
        assert "float64 computed in float32: e, w, c" in repr(sites)
    single = jax.tree.map(jnp.float32, PARAMS)
    assert not any(s.narrowed for s in qat.quantize(net, qat.recipe("w8a8")).sites(single, IDS))
