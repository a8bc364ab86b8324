"""Statistics of layers are the same whatever way the function and the batches are written."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measured import ENERGY, array, both, counted, decibels, number
from often import slow_after
from zoo import ZOO

import qat
from qat.analysis import Layers, layer_statistics
from qat.analysis import measure as measuring
from qat.numerics import dequantize


def programs(jitted: Any) -> int:
    """How many programs a jitted function has compiled."""
    return jitted._cache_size()


@pytest.mark.parametrize("name", slow_after(1, ["w4a8", "w4a8_dynamic"]))
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
        counts.append((programs(measuring._step), programs(measuring._operands)))
    assert counts[0] == counts[1] == counts[2]


def test_a_batch_is_taken_before_the_next_is_made():
    q, w, state, (x,) = both("w8a8")
    done, step = [], measuring._step

    def batches():
        for drawn in range(3):
            assert len(done) == drawn
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


def test_operands_are_measured_in_the_precision_that_the_site_reads():
    def fn(p, x):
        return x @ p.astype(jnp.bfloat16)

    q, w, state, batches = both("w8a8", fn, array(48, 16), [array(64, 48, seed=1).astype(jnp.bfloat16)])
    codes = dequantize(q.convert(w, state, batches[0]).weights[""])
    activation, weight = layer_statistics(q, w, state, batches).sites[0].operands
    assert weight.sqnr_db == pytest.approx(decibels(w.astype(jnp.bfloat16), codes), abs=ENERGY)
    assert activation.histogram.counts == counted(batches[0].astype(jnp.float32), activation.histogram)


MODELS = {"resnet_eval": 7, "lstm": 10, "scan_remat": 26}


@pytest.mark.parametrize("model", ["lstm", *(pytest.param(m, marks=pytest.mark.slow) for m in MODELS if m != "lstm")])
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
