"""Statistics of layers are those that numpy gives, whatever way the data and the function are written."""

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO

import qat
from qat.analysis import Layers, layer_statistics, output_error
from qat.analysis import measure as measuring
from qat.numerics import dequantize

ENERGY = 1e-3  # dB; energies are sums in float32, in another order than numpy's


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def uniform(*shape):
    """Numbers spread evenly over [-1, 1], both bounds among them."""
    return jnp.asarray(np.random.default_rng(0).permutation(np.linspace(-1, 1, math.prod(shape))), jnp.float32).reshape(
        shape
    )


def product(p, x):
    return x @ p


def both(name, fn=product, params=None, batches=None, **options):
    """A function quantized by a preset, its parameters and batches, and the state that these calibrate."""
    q = qat.quantize(fn, qat.recipe(name, edges="same", **options))
    params = array(48, 16) if params is None else params
    batches = [jnp.maximum(array(64, 48, seed=1), -0.3)] if batches is None else batches
    return q, params, q.calibrate(params, batches), batches


def decibels(x, hat):
    x, hat = np.asarray(x, np.float64), np.asarray(hat, np.float64)
    return 10 * np.log10(np.sum(x**2) / np.sum((x - hat) ** 2))


def counted(x, histogram):
    """The counts that numpy gives for the same edges, values beyond them in the bins at the ends."""
    places = np.searchsorted(np.asarray(histogram.edges)[1:-1], np.asarray(x, np.float64).ravel(), side="right")
    return tuple(np.bincount(places, minlength=len(histogram.counts)))


def operands(layers):
    return {operand.key: operand for site in layers.sites for operand in site.operands}


def number(value: float | None) -> float:
    assert value is not None
    return value


def programs(jitted: Any) -> int:
    """How many programs a jitted function has compiled."""
    return jitted._cache_size()


def test_each_bit_adds_six_decibels_to_a_uniform_tensor():
    for bits in range(2, 9):
        rule = qat.QuantRule(weights=qat.TensorSpec(bits), activations=qat.TensorSpec(bits, grid="affine"))
        q, w, x = qat.quantize(product, qat.QuantRecipe((rule,))), uniform(256, 256), uniform(256, 256)
        (site,) = layer_statistics(q, w, q.calibrate(w, [x]), [x]).sites
        activation, weight = site.operands
        assert (activation.bits, weight.bits) == (bits, bits)
        assert activation.sqnr_db == pytest.approx(20 * math.log10(2**bits - 1), abs=0.05)
        assert weight.sqnr_db == pytest.approx(20 * math.log10(2**bits - 2), abs=0.05)  # a symmetric grid is narrow


@pytest.mark.parametrize("name", ["w4a4", "w3a8", "w4a4_dynamic", "w4(group_size=16)", "w4a4(quantizer='lsq')"])
def test_a_weight_has_the_noise_of_its_codes(name):
    q, w, state, batches = both(name)
    codes = dequantize(q.convert(w, state, batches[0]).weights[""])
    (site,) = layer_statistics(q, w, state, batches).sites
    weight = site.operands[-1]
    assert (weight.kind, weight.side, weight.grid) == ("weight", "rhs", "symmetric")
    assert weight.sqnr_db == pytest.approx(decibels(w, codes), abs=ENERGY)
    assert weight.low == pytest.approx(-weight.high)
    assert weight.high >= jnp.abs(codes).max()


@pytest.mark.parametrize("name", ["w3a3", "w4a8(observer='percentile(95)')", "w8a8"])
def test_what_clips_are_the_values_beyond_the_reach_of_rounding(name):
    q, w, state, batches = both(name)
    (site,) = layer_statistics(q, w, state, batches).sites
    x, a = np.asarray(batches[0], np.float64), site.operands[0]
    half = (a.high - a.low) / (2**a.bits - 1) * (0.5 + 2**-12)
    assert a.clipped == np.mean((x < a.low - half) | (x > a.high + half))
    assert (a.clipped == 0) == (name == "w8a8")


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


@pytest.mark.parametrize("name", ["w4a8", "w4a8_dynamic"])
def test_a_layer_scan_gives_for_each_layer_what_the_unrolled_layers_give(name):
    def layer(w, h):
        return jnp.tanh(h @ w) + h

    def scanned(p, x):
        return jax.lax.scan(lambda h, w: (layer(w, h), None), x, p)[0]

    def unrolled(p, x):
        for w in p:
            x = layer(w, x)
        return x

    weights = [array(16, 16, seed=i) * 2.0**-i for i in range(3)]
    batches = [array(32, 16, seed=7), array(16, 16, seed=8)]
    stacked, apart = (
        layer_statistics(*both(name, fn, p, batches)).sites
        for fn, p in ((scanned, jnp.stack(weights)), (unrolled, weights))
    )
    assert [site.id.rsplit(":", 1)[1] for site in stacked] == ["0[0]", "0[1]", "0[2]"]
    for one, other in zip(stacked, apart, strict=True):
        assert one.output_sqnr_db == pytest.approx(other.output_sqnr_db, abs=ENERGY)
        for a, b in zip(one.operands, other.operands, strict=True):
            assert replace(a, key=b.key, sqnr_db=b.sqnr_db) == b
            assert a.sqnr_db == pytest.approx(b.sqnr_db, abs=ENERGY)


@pytest.mark.parametrize("name", ["w4a4", "w8a8_dynamic"])
def test_how_the_data_is_split_into_batches_does_not_matter(name):
    q, w, state, (whole_batch,) = both(name, batches=[array(64, 48) * jnp.geomspace(1e-3, 1e3, 64)[:, None]])
    (one,) = layer_statistics(q, w, state, [whole_batch]).sites
    parts = jnp.split(whole_batch, [3, 17, 18, 60])
    for order in (parts, parts[::-1]):
        (many,) = layer_statistics(q, w, state, iter(order)).sites
        assert many.output_sqnr_db == pytest.approx(one.output_sqnr_db, abs=ENERGY)
        for a, b in zip(many.operands, one.operands, strict=True):
            assert replace(a, sqnr_db=b.sqnr_db) == b
            assert a.sqnr_db == pytest.approx(b.sqnr_db, abs=ENERGY)


@pytest.mark.parametrize("quantizer", ["lsq", "pact"])
def test_learned_ranges_count(quantizer):
    q, w, state, batches = both("w4a4", quantizer=quantizer)
    halved = replace(state, learned=jax.tree.map(lambda value: value / 2, state.learned))
    before, after = (operands(layer_statistics(q, w, s, batches)) for s in (state, halved))
    for key, a in before.items():
        assert after[key].high == pytest.approx(a.high / 2)
        assert number(after[key].clipped) > number(a.clipped)
        assert number(after[key].sqnr_db) < number(a.sqnr_db)


def test_zeros_alone_have_a_range_of_nothing_and_stretch_no_other():
    w = array(48, 16).at[:, 3].set(0)
    for name in ("w8a8", "w8a8_dynamic"):
        q, w, state, batches = both(name, params=w, batches=[array(64, 48, seed=1).at[5].set(0)])
        lhs, rhs = layer_statistics(q, w, state, batches).sites[0].operands
        assert rhs.high == pytest.approx(float(jnp.abs(w).max()))
        assert lhs.high < 10
        (silent,) = layer_statistics(q, w, state, [jnp.zeros((2, 48))]).sites
        assert (silent.operands[0].sqnr_db, silent.operands[0].clipped, silent.output_sqnr_db) == (None, 0, None)


def test_a_branch_not_taken_counts_nothing():
    def fn(p, x):
        return jax.lax.cond(x.sum() > 0, lambda: x @ p["a"], lambda: x @ p["b"])

    p = {"a": array(8, 8), "b": array(8, 8, seed=1)}
    q, p, state, batches = both("w8a8", fn, p, [jnp.ones((4, 8)), -jnp.ones((4, 8))])
    by_path = {site.path: site for site in layer_statistics(q, p, state, batches[:1]).sites}
    seen, unseen = by_path["a"].operands[0], by_path["b"].operands[0]
    assert sum(seen.histogram.counts) == 32
    assert (unseen.clipped, unseen.sqnr_db, by_path["b"].output_sqnr_db) == (None, None, None)
    assert sum(unseen.histogram.counts) == 0
    assert unseen.low < unseen.high


def test_loops_over_time_count_every_step():
    def fn(p, x):
        return jax.lax.scan(lambda h, row: (jnp.tanh(row @ p["in"] + h @ p["back"]), None), jnp.zeros((4, 6)), x)[0]

    q, p, state, (x,) = both("w8a8", fn, {"in": array(5, 6), "back": array(6, 6)}, [array(7, 4, 5)])
    forward, back = layer_statistics(q, p, state, [x, x]).sites
    assert forward.operands[0].histogram.counts == counted(np.stack([x, x]), forward.operands[0].histogram)
    assert sum(back.operands[0].histogram.counts) == 2 * 7 * 4 * 6


def test_bit_widths_are_data_to_the_compiled_step():
    counts = []
    for name in ("w4a4", "w3a5", "w8a8"):
        layer_statistics(*both(name))
        counts.append((programs(measuring._step), programs(measuring._given)))
    assert counts[0] == counts[1] == counts[2]


def test_operands_are_measured_in_the_precision_that_the_site_reads():
    def fn(p, x):
        return x @ p.astype(jnp.bfloat16)

    q, w, state, batches = both("w8a8", fn, array(48, 16), [array(64, 48, seed=1).astype(jnp.bfloat16)])
    codes = dequantize(q.convert(w, state, batches[0]).weights[""])
    activation, weight = layer_statistics(q, w, state, batches).sites[0].operands
    assert weight.sqnr_db == pytest.approx(decibels(w.astype(jnp.bfloat16), codes), abs=ENERGY)
    assert activation.histogram.counts == counted(batches[0].astype(jnp.float32), activation.histogram)


def test_a_batch_is_taken_before_the_next_is_made():
    q, w, state, (x,) = both("w8a8")
    done, step = [], measuring._step

    def batches():
        for number in range(3):
            assert len(done) == number
            yield x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_step", lambda *args: done.append(args) or step(*args))
        layer_statistics(q, w, state, batches())
    assert len(done) == 3


def test_sites_that_read_one_array_tell_of_it_alike():
    def fn(p, x):
        return jnp.tanh(x @ p["q"]) @ (x @ p["k"]).T

    one, other, scores = layer_statistics(*both("w8a8", fn, {"q": array(8, 4), "k": array(8, 4)}, [array(6, 8)])).sites
    assert one.operands[0] == other.operands[0]
    assert [operand.kind for operand in scores.operands] == ["activation", "activation"]
    assert [operand.side for operand in scores.operands] == ["lhs", "rhs"]


MODELS = {"resnet_eval": 7, "lstm": 10, "scan_remat": 26}


@pytest.mark.parametrize("model", MODELS)
def test_models_of_the_zoo_have_the_statistics_of_every_site(model):
    case = ZOO[model]()
    q, batches = qat.quantize(case.fn, qat.recipe("w8a8")), [case.inputs(2, None, 0)]
    state = q.calibrate(case.params, batches)
    layers = layer_statistics(q, case.params, state, batches)
    assert len(layers.sites) == len({site.id for site in layers.sites}) == MODELS[model]
    assert list(dict.fromkeys(site.id.split("[")[0] for site in layers.sites)) == [
        site.id for site in q.sites(case.params, *batches[0])
    ]
    assert {operand.key for site in layers.sites for operand in site.operands} == set(state.clips)
    for site in layers.sites:
        for operand in site.operands:
            assert operand.bits == 8 and operand.clipped == 0
            assert number(operand.sqnr_db) > 35
            assert sum(operand.histogram.counts) > 0
        assert site.operands and number(site.output_sqnr_db) > 35
    assert Layers.from_json(layers.to_json()) == layers
    assert layer_statistics(q, case.params, state, batches).to_json() == layers.to_json()
    assert all(site.path.split("/")[-1] in repr(layers) for site in layers.sites[:3])


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
        ([jnp.ones((4, 48)), jnp.ones(48)], "number 1 has another structure"),
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
    with pytest.raises(ValueError, match="Calibrate with this recipe"):
        layer_statistics(qat.quantize(product, qat.recipe("w8a8_dynamic")), w, state, batches)
