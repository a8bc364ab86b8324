"""Statistics of layers are those that numpy gives."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured import ENERGY, array, both, counted, decibels, number, product
from often import slow_after

import qat
from qat.analysis import Layers, layer_statistics, output_error
from qat.numerics import dequantize


def uniform(*shape):
    """Numbers spread evenly over [-1, 1], both bounds among them."""
    return jnp.asarray(np.random.default_rng(0).permutation(np.linspace(-1, 1, math.prod(shape))), jnp.float32).reshape(
        shape
    )


def operands(layers):
    return {operand.key: operand for site in layers.sites for operand in site.operands}


def test_each_bit_adds_six_decibels_to_a_uniform_tensor():
    for bits in range(2, 9):
        rule = qat.QuantRule(weights=qat.TensorSpec(bits), activations=qat.TensorSpec(bits, grid="affine"))
        q, w, x = qat.quantize(product, qat.QuantRecipe((rule,))), uniform(256, 256), uniform(256, 256)
        (site,) = layer_statistics(q, w, q.calibrate(w, [x]), [x]).sites
        activation, weight = site.operands
        assert (activation.bits, weight.bits) == (bits, bits)
        assert activation.sqnr_db == pytest.approx(20 * math.log10(2**bits - 1), abs=0.05)
        assert weight.sqnr_db == pytest.approx(20 * math.log10(2**bits - 2), abs=0.05)  # a symmetric grid is narrow


@pytest.mark.parametrize(
    "name", slow_after(2, ["w4a4", "w4(group_size=16)", "w3a8", "w4a4_dynamic", "w4a4(quantizer='lsq')"])
)
def test_a_weight_has_the_noise_of_its_codes(name):
    q, w, state, batches = both(name)
    codes = dequantize(q.convert(w, state, batches[0]).weights[""])
    (site,) = layer_statistics(q, w, state, batches).sites
    weight = site.operands[-1]
    assert (weight.kind, weight.side, weight.grid) == ("weight", "rhs", "symmetric")
    assert weight.sqnr_db == pytest.approx(decibels(w, codes), abs=ENERGY)
    assert weight.low == pytest.approx(-weight.high)
    assert weight.high * (1 + 1e-6) >= jnp.abs(codes).max()


@pytest.mark.parametrize("name", ["w3a3", "w4a8(observer='percentile(95)')", "w8a8"])
def test_what_is_clipped_lies_outside_the_range(name):
    q, w, state, batches = both(name)
    (site,) = layer_statistics(q, w, state, batches).sites
    for x, operand in zip((batches[0], w), site.operands, strict=True):
        x, clip = np.asarray(x), state.clips[operand.key]
        low, high = np.minimum(np.asarray(clip.low), 0), np.maximum(np.asarray(clip.high), 0)
        if operand.grid == "symmetric":
            low, high = -np.maximum(-low, high), np.maximum(-low, high)
        assert (operand.low, operand.high) == (np.min(low), np.max(high))
        assert operand.clipped == np.mean((x < low) | (x > high))
        assert (operand.clipped == 0) == (name == "w8a8")


@pytest.mark.parametrize("name", ["w4a4", "w8a8_dynamic", "w4a4(observer='percentile(95)')"])
def test_histograms_count_every_value_as_numpy_does(name):
    batches = [2.0**i * array(64, 48, seed=i + 9) for i in (3, -4, 5)]
    q, w, state, _ = both(name, batches=batches[:1])
    activation, weight = layer_statistics(q, w, state, batches).sites[0].operands
    for operand, values in ((activation, np.concatenate(batches)), (weight, w)):
        assert len(operand.histogram.edges) == 65
        assert np.ptp(np.diff(operand.histogram.edges)) == 0
        assert operand.histogram.counts == counted(values, operand.histogram)
        assert operand.histogram.edges[0] <= operand.low < operand.high <= operand.histogram.edges[-1]


def test_the_output_has_the_noise_of_the_integer_product_alone():
    """Each site by itself: the second gets the float result of the first."""

    def two(p, x):
        return jax.nn.relu(x @ p["a"]) @ p["b"]

    p = {"a": array(48, 48), "b": array(48, 16, seed=1)}
    q, p, state, (x,) = both("w4a4", two, p, [array(64, 48, seed=2)])
    first, second = layer_statistics(q, p, state, [x]).sites
    alone, w, ranges, (h,) = both("w4a4", params=p["b"], batches=[jax.nn.relu(x @ p["a"])])
    assert second.output_sqnr_db == pytest.approx(decibels(h @ w, alone.simulate(w, ranges, h)), abs=ENERGY)
    total = output_error(q, p, state, [x])
    assert total == pytest.approx(decibels(two(p, x), q.simulate(p, state, x)), abs=ENERGY)
    assert 0 < number(total) < min(number(first.output_sqnr_db), number(second.output_sqnr_db))


def test_sites_in_float_are_there_with_their_reason():
    def fn(p, x):
        return jnp.tanh(x @ p["kept"]) @ p["done"]

    recipe = qat.QuantRecipe((qat.QuantRule("kept"), *qat.recipe("w8a8", edges="same").rules))
    q, p, x = qat.quantize(fn, recipe), {"kept": array(8, 8), "done": array(8, 8)}, array(4, 8)
    kept, done = layer_statistics(q, p, q.calibrate(p, [x]), [x]).sites
    assert (kept.path, kept.rule, kept.operands, kept.output_sqnr_db) == ("kept", None, (), None)
    assert kept.reason == "its rule leaves it in float"
    assert (done.path, done.rule, done.reason, len(done.operands)) == ("done", ".*", None, 2)


@pytest.mark.parametrize("quantizer", ["lsq", "pact"])
def test_learned_ranges_count(quantizer):
    q, w, state, batches = both("w4a4", quantizer=quantizer, observer="minmax")
    halved = replace(state, learned=jax.tree.map(lambda value: value / 2, state.learned))
    before, after = (operands(layer_statistics(q, w, s, batches)) for s in (state, halved))
    for key, a in before.items():
        assert after[key].high == pytest.approx(a.high / 2)
        assert number(after[key].clipped) > number(a.clipped) == 0
        assert number(after[key].sqnr_db) < number(a.sqnr_db)


def test_a_learned_offset_moves_the_range_that_is_told():
    q, w, state, batches = both("w4a4", quantizer="lsq_plus", observer="minmax")
    moved = {
        k: dict(v) | ({"offset": v["offset"] - v["scale"] * 3} if "offset" in v else {})
        for k, v in state.learned.items()
    }
    before, after = (operands(layer_statistics(q, w, s, batches)) for s in (state, replace(state, learned=moved)))
    for key, a in before.items():
        step = 3 * float(state.learned[key]["scale"]) if "offset" in state.learned[key] else 0.0
        assert after[key].low == pytest.approx(a.low - step, abs=1e-5)
        assert after[key].high == pytest.approx(a.high - step, abs=1e-5)


def test_zeros_alone_have_a_range_of_nothing_and_stretch_no_other():
    w = array(48, 16).at[:, 3].set(0)
    for name in ("w8a8", "w8a8_dynamic"):
        q, w, state, batches = both(name, params=w, batches=[array(64, 48, seed=1).at[5].set(0)])
        lhs, rhs = layer_statistics(q, w, state, batches).sites[0].operands
        assert rhs.high == pytest.approx(float(jnp.abs(w).max()))
        assert lhs.high < 10
        (silent,) = layer_statistics(q, w, state, [jnp.zeros((2, 48))]).sites
        assert (silent.operands[0].sqnr_db, silent.operands[0].clipped, silent.output_sqnr_db) == (None, 0, None)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sites": [{"id": "x"}]}'])
def test_what_is_no_layers_is_refused(text):
    with pytest.raises(ValueError, match="not the statistics of layers"):
        Layers.from_json(text)


@pytest.mark.parametrize("measure", [layer_statistics, output_error])
@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "`batches` is empty"),
        (jnp.ones((4, 48)), r"For a single batch write \[batch\]"),
        ([jnp.ones((4, 48)), jnp.ones(48)], "batch 1 has another structure than the first"),
    ],
)
def test_what_are_no_batches_is_refused(measure, batches, said):
    q, w, state, _ = both("w8a8")
    with pytest.raises(ValueError, match=said):
        measure(q, w, state, batches)


def test_what_is_not_finite_is_named():
    q, w, state, (x,) = both("w8a8")
    with pytest.raises(ValueError, match=r"too large to square in .*dot_general:0/lhs"):
        layer_statistics(q, w, state, [x.at[3, 4].set(jnp.nan)])


def test_a_state_of_another_recipe_is_refused():
    _, w, state, batches = both("w8a8")
    with pytest.raises(ValueError, match="Calibrate and convert with this recipe"):
        layer_statistics(qat.quantize(product, qat.recipe("w8a8_dynamic")), w, state, batches)
