"""Rounding chosen by a layer's or block's results: nearer to the float function than nearest rounding, and served as
simulated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from often import slow_after
from support.zoo import ZOO

from qat import ptq, quantize, recipe
from qat.core.plan import make_plan
from qat.ptq import Subject
from qat.ptq.blocks import blocks, layers
from qat.ptq.program import flatten
from qat.ptq.streaming import Result, Walk

STEPS = "steps=200, batch=16"
METHODS = [f"adaround({STEPS})", f"brecq({STEPS})", f"qdrop({STEPS})", "gptq()"]
SAME = "(edges='same')"


def network(params, x):
    """Two layers, in one block each."""
    return jax.nn.relu(x @ params["block_0"]["w"]) @ params["block_1"]["w"]


def correlated(seed, rows=64, width=24):
    """Inputs of few directions, so that one weight's error can be made good by another's."""
    few, mixed, noise = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(few, (rows, width // 4)) @ jax.random.normal(mixed, (width // 4, width))
    return x + 0.1 * jax.random.normal(noise, x.shape)


def case(seed, rules, fn=network):
    keys = jax.random.split(jax.random.key(100 + seed))
    params = {f"block_{i}": {"w": jax.random.normal(key, (24, 24)) / 5} for i, key in enumerate(keys)}
    batches = [correlated(seed)[:32], correlated(seed)[32:]]
    q = quantize(fn, recipe(rules))
    return q, params, q.calibrate(params, batches), batches


def error(q, params, exact, state, batches):
    """The mean squared error of the simulated function."""
    return float(np.mean([jnp.mean((q.simulate(params, state, x) - q.fn(exact, x)) ** 2) for x in batches]))


@pytest.mark.parametrize("seed", slow_after(1, range(3)))
@pytest.mark.parametrize("method", METHODS)
def test_outputs_come_nearer_to_float_than_with_nearest_rounding(method, seed):
    q, params, state, batches = case(seed, f"w3a8{SAME}")
    found = ptq.apply((method,), q, params, state, batches)
    before, after = error(q, params, params, state, batches), error(q, found.params, params, found.state, batches)
    assert after < 0.7 * before
    assert found.steps[0].figures["error_ratio"] < 0.8
    assert set(found.steps[0].changed) <= {"block_0", "block_1"}


@pytest.mark.parametrize(
    "rules", slow_after(1, ["w3a4", "w2(edges='same', group_size=8)", "w3a3_dynamic(edges='same')"])
)
@pytest.mark.parametrize("method", METHODS)
def test_rounded_weights_are_served_as_simulated_and_keep_their_scales(method, rules):
    q, params, state, batches = case(0, rules)
    found = ptq.apply((method,), q, params, state, batches)
    before, after = (q.convert(p, s, batches[0]) for p, s in ((params, state), (found.params, found.state)))
    assert (q.serve(after, batches[1]) == q.simulate(found.params, found.state, batches[1])).all()
    for key, weight in after.weights.items():
        assert (weight.scale == before.weights[key].scale).all()
    moved = [np.asarray(w.codes, int) - np.asarray(before.weights[key].codes, int) for key, w in after.weights.items()]
    assert any(m.any() for m in moved)
    if method != "gptq()":  # which makes errors good by more than one step
        assert all(abs(m).max() <= 1 for m in moved)


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_pure_and_repeat_themselves(method):
    q, params, state, batches = case(1, "w3a4")
    kept = jax.tree.map(jnp.copy, (params, state))
    first, second = (ptq.apply((method,), q, params, state, batches) for _ in range(2))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), (params, state), kept))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), (first.params, first.state), (second.params, second.state))
    assert jax.tree.all(same)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("resnext", "adaround(steps=3, batch=4)"),
        ("mobilenet", "qdrop(steps=3, batch=4)"),
        ("lenet_bf16", "brecq(steps=3, batch=4)"),
        ("scan_remat", "gptq"),
    ],
)
def test_models_of_every_kind_are_served_as_simulated(name, method):
    model = ZOO[name]()
    batches = [model.inputs(4, 8, seed) for seed in range(2)]
    q = quantize(model.fn, recipe("w4a4"))
    state = q.calibrate(model.params, batches)
    found = ptq.apply((method,), q, model.params, state, batches)
    served = q.serve(q.convert(found.params, found.state, *batches[0]), *batches[0])
    simulated = q.simulate(found.params, found.state, *batches[0])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), served, simulated))


def test_depthwise_convolutions_are_rounded_by_their_outputs():
    params = {"w": jax.random.normal(jax.random.key(0), (3, 3, 1, 8))}

    def depthwise(params, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, params["w"], (2, 2), "SAME", dimension_numbers=numbers, feature_group_count=8
        )

    smooth = jnp.cumsum(jax.random.normal(jax.random.key(1), (64, 9, 8, 8)), 1)
    q = quantize(depthwise, recipe(f"w3a8{SAME}"))
    state = q.calibrate(params, [smooth])
    for method in ("adaround(steps=600, batch=16)", "gptq"):
        found = ptq.apply((method,), q, params, state, [smooth])
        assert error(q, found.params, params, found.state, [smooth]) < 0.8 * error(q, params, params, state, [smooth])


def test_a_loss_decides_which_outputs_count():
    q, params, state, batches = case(2, f"w2a8{SAME}")
    targets = [q.fn(params, x)[:, 0] + 1 for x in batches]

    def loss(outputs, target):
        return jnp.mean((outputs[:, 0] - target) ** 2)

    subject = Subject(q, loss=loss, targets=targets)
    plain, weighed = (
        ptq.apply((f"brecq({STEPS}, fisher={fisher})",), subject, params, state, batches) for fisher in (False, True)
    )

    def first(found):
        shifts = [q.simulate(found.params, found.state, x)[:, 0] - q.fn(params, x)[:, 0] for x in batches]
        return float(np.mean([jnp.mean(shift**2) for shift in shifts]))

    assert first(weighed) < first(plain)
    with pytest.raises(ValueError, match="needs more than the quantized function: `loss`, `targets`"):
        ptq.apply(("brecq(fisher=True)",), q, params, state, batches)


def units(name, find, **options):
    model = ZOO[name]()
    flat = flatten(make_plan(model.fn, recipe("w4a4"), model.params, model.inputs(4, 8, 0)))
    return find(flat, lambda start, stop: True, **options)


def test_blocks_are_found_by_the_module_path():
    found = units("bert", blocks, pattern=None)
    assert [(u.path, len(u.weights)) for u in found.units] == [
        ("Bert/layer_0", 6), ("Bert/layer_1", 6), ("Bert/pooler", 1), ("Bert/classifier", 1)
    ]  # fmt: skip
    assert list(found.left) == ["Bert/word:embedding:0", "Bert/token_type:embedding:0"]
    found = units("resnet_eval", blocks, pattern=None)
    assert [u.path for u in found.units] == [
        "ResNet/conv_init", "ResNet/BasicBlock_0", "ResNet/BasicBlock_1", "ResNet/head"
    ]  # fmt: skip


def test_blocks_are_named_by_a_pattern():
    found = units("bert", blocks, pattern=r"layer_\d/(?!attention)\w+")
    assert [u.path for u in found.units] == [
        f"Bert/layer_{i}/{part}" for i in (0, 1) for part in ("intermediate", "output")
    ]
    assert found.left["Bert/pooler:dot_general:0"] == r"its path is of no block 'layer_\\d/(?!attention)\\w+'"
    with pytest.raises(ValueError, match="`pattern` must be a regular expression"):
        ptq.methods.build("qdrop(pattern='(')")


def test_the_relu_behind_a_layer_is_part_of_it():
    alone, joint = (units("resnet_eval", layers, relu=relu).units for relu in (False, True))
    assert [u.path for u in alone] == [u.path for u in joint]
    assert sum(u.stop - u.start > 1 for u in joint) >= 3
    assert all(u.stop - u.start == 1 for u in alone)


@pytest.mark.parametrize(
    ("name", "site", "why"),
    [
        ("gpt", "GPT/wte:embedding:0", "look-up"),
        ("gpt", "GPT/wte.attend:dot_general:0", "used at 2 sites"),
        ("scan_remat", "ScannedTransformer/layers/attention/query:dot_general:0", "inside a loop"),
        ("weight_standardized", "BiT/StandardizedConv_0:conv:0", "computed from parameters"),
    ],
)
def test_what_is_left_has_a_reason(name, site, why):
    assert why in units(name, layers, relu=True).left[site]


def test_weights_of_dynamic_range_are_left():
    from dataclasses import replace

    rules = recipe("w4")
    rule = rules.rules[0]
    assert rule.weights is not None
    dynamic = replace(rules, rules=(replace(rule, weights=replace(rule.weights, dynamic=True)),), first=None, last=None)
    params = {"w": jnp.ones((4, 3))}
    q = quantize(lambda params, x: x @ params["w"], dynamic)
    batch = jnp.ones((8, 4))
    with pytest.raises(ValueError, match=r"there is no layer to round.*dynamic range"):
        ptq.apply(("adaround",), q, params, q.calibrate(params, [batch]), [batch])


def test_batches_without_an_axis_of_examples_are_refused():
    q = quantize(lambda params, x, scale: (x @ params["w"]) * scale, recipe("w4"))
    params, batch = {"w": jnp.ones((4, 3))}, (jnp.ones((8, 4)), jnp.ones(()))
    with pytest.raises(ValueError, match="leading axis of examples"):
        ptq.apply(("gptq",), q, params, q.calibrate(params, [batch]), [batch])


@pytest.mark.parametrize(
    "text", ["adaround(steps=0)", "qdrop(drop=1.0)", "brecq(rate=0)", "gptq(damping=0)", "gptq(samples=0)"]
)
def test_settings_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="must be"):
        ptq.methods.build(text)


def test_memory_bounds_the_examples():
    def start(subject, prepared):
        counts.append(prepared.examples.count)
        return lambda place: [Result({}, {}, 1.0, 1.0) for _ in place.units]

    q, params, state, batches = case(0, "w4a4")
    counts = []
    one = 3 * 24 * 4  # bytes: a row of 24 float32 in the float function, in the quantized one, and its target
    for memory in (100 * one, 20 * one, 1):
        walk = Walk(partial(layers, relu=False), start, samples=64, batch=8, memory=memory)
        found = walk.run(Subject(q), params, state, [(x,) for x in batches])
        assert found.changed == ()
        assert "nothing better" in found.left["block_0"]
    assert counts == [64, 16, 8]
