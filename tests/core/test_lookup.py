"""Quantized look-ups in a table, against numpy and against what the float look-up gives."""

import fakequant
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat import QuantRecipe, QuantRule, TensorSpec

TABLE = np.random.default_rng(0).standard_normal((10, 12)).astype(np.float32)
IDS = np.asarray([[0, 3, 9], [3, 3, 1]], np.int32)
SPECS = {
    "row": TensorSpec(8, per="channel"),
    "table": TensorSpec(4),
    "affine_row": TensorSpec(4, grid="affine", per="channel"),
}
each_spec = pytest.mark.parametrize("spec", SPECS)


def look_up(spec, fn, table, ids):
    q = qat.quantize(fn, QuantRecipe((QuantRule(weights=SPECS[spec]),)))
    with jax.disable_jit():  # op by op: the same table each time
        state = q.calibrate(table, [ids])
    served = q.serve(q.convert(table, state, ids), ids)
    simulated = q.simulate(table, state, ids)
    jax.tree.map(np.testing.assert_array_equal, served, simulated)
    return simulated, lambda g: jax.vjp(lambda t: q.simulate(t, state, ids), table)[1](g)[0]


@each_spec
def test_a_look_up_gives_the_rounded_rows_and_their_gradient(spec):
    rounded, inside = fakequant.fake_quant(TABLE, SPECS[spec], None if spec == "table" else (1,))
    value, pullback = look_up(spec, lambda t, ids: t[ids], TABLE, IDS)
    np.testing.assert_allclose(value, rounded[IDS], rtol=1e-6)
    pull = np.random.default_rng(1).standard_normal(value.shape).astype(np.float32)
    exact = np.zeros(TABLE.shape)
    np.add.at(exact, IDS, pull)
    np.testing.assert_allclose(pullback(pull), np.where(inside, exact, 0), rtol=1e-6, atol=1e-6)  # sums in float32


@pytest.mark.parametrize("spec", ["row", "affine_row"])
def test_an_index_out_of_range_gives_what_the_float_look_up_gives(spec):
    def fn(table, ids):
        taken = {mode: jnp.take(table, ids, axis=0, mode=mode) for mode in ("fill", "clip", "wrap")}
        return taken | {"take": jnp.take(table, ids, axis=0), "index": table[ids]}

    ids = np.asarray([0, 10, -1, -11, 9, 1000])
    rounded, _ = fakequant.fake_quant(TABLE, SPECS[spec], (1,))
    found, _ = look_up(spec, fn, TABLE, ids)
    exact = fn(jnp.asarray(rounded, jnp.float32), ids)
    for mode, value in found.items():
        np.testing.assert_allclose(value, exact[mode], rtol=1e-6)
    assert np.isnan(found["take"][1]).all() and not np.isnan(found["take"][2]).any()


FILLS = (0.0, 1.0, -2.5, 1e30, np.inf, np.nan)


@each_spec
def test_an_index_out_of_range_gives_the_fill_of_the_float_look_up(spec):
    def fn(table, ids):
        filled = [jnp.take(table, ids, axis=0, mode="fill", fill_value=fill) for fill in FILLS]
        return filled, [table.astype(jnp.bfloat16).at[ids].get(mode="fill", fill_value=-2.5)]

    ids = np.asarray([[3, 10], [-1, -11], [-10, 1000]])  # the second of each is out of range
    rounded, _ = fakequant.fake_quant(TABLE, SPECS[spec], None if spec == "table" else (1,))
    (found, found_bfloat16), _ = look_up(spec, fn, TABLE, ids)
    for value, fill in zip(found, FILLS, strict=True):
        np.testing.assert_array_equal(value[:, 1], np.full((3, 12), fill, np.float32))
        np.testing.assert_allclose(value[:, 0], rounded[[3, -1, -10]], rtol=1e-6)
    np.testing.assert_array_equal(found_bfloat16[0][:, 1], np.full((3, 12), -2.5))


@each_spec
def test_a_look_up_that_promises_to_stay_in_range_gives_the_rounded_rows(spec):
    rounded, _ = fakequant.fake_quant(TABLE, SPECS[spec], None if spec == "table" else (1,))
    found, _ = look_up(spec, lambda table, ids: table.at[ids].get(mode="promise_in_bounds"), TABLE, IDS)
    np.testing.assert_allclose(found, rounded[IDS], rtol=1e-6)


def test_a_row_of_tokens_quantized_for_itself_does_not_depend_on_the_padding():
    def fn(p, ids, mask):
        x = p["table"][ids]
        return jnp.where(mask[..., None], x @ p["w"], 0)

    q = qat.quantize(fn, qat.recipe("w8a8_dynamic", edges="same"))
    params = {"table": TABLE, "w": np.random.default_rng(1).standard_normal((12, 5)).astype(np.float32)}
    mask = np.arange(3) < np.asarray([[2], [3]])
    state = q.calibrate(params, [(IDS, mask)])
    one, other = (q.simulate(params, state, np.where(mask, IDS, fill), mask) for fill in (0, 7))
    np.testing.assert_array_equal(one, other)


def test_a_table_of_bfloat16_gives_bfloat16_rows():
    value, _ = look_up("row", lambda t, ids: t.astype(jnp.bfloat16)[ids], TABLE, IDS)
    assert value.dtype == jnp.bfloat16


def test_a_table_looked_up_by_columns_has_a_scale_for_each_column():
    value, _ = look_up("row", lambda t, ids: jnp.take(t, ids, axis=1), TABLE, IDS)
    rounded, _ = fakequant.fake_quant(TABLE, SPECS["row"], (0,))
    np.testing.assert_allclose(value, rounded[:, IDS], rtol=1e-6)


def test_a_slice_of_a_table_is_no_look_up_of_whole_rows_and_says_so():
    def fn(table, ids):
        return jax.vmap(lambda i: jax.lax.dynamic_slice(table, (i, 2), (1, 4)))(ids), table[ids]

    q = qat.quantize(fn, QuantRecipe((QuantRule(weights=SPECS["row"]),)))
    reasons = {s.reason for s in q.sites(TABLE, IDS[0])}
    assert reasons == {None, "a gather that does not look up whole rows"}


def test_a_product_too_long_for_int32_stays_in_float_and_says_so():
    params, x = {"short": np.ones((66_000, 1)), "long": np.ones((67_000, 1))}, np.ones((1, 67_000))
    q = qat.quantize(lambda p, x: (x[:, :66_000] @ p["short"], x @ p["long"]), qat.recipe("w8a8"))
    params, x = jax.tree.map(np.float32, params), x.astype(np.float32)
    reasons = {s.path: s.reason for s in q.sites(params, x)}
    assert reasons == {
        "short": None,
        "long": "contracts 67000 products, over the 66311 whose sum fits int32 on its grids",
    }
    state = q.calibrate(params, [x])
    np.testing.assert_allclose(q.simulate(params, state, x)[0], 66_000, rtol=1e-5)
