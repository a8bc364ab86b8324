# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportOptionalMemberAccess=false
"""Quantized additions (`adds=True`): which additions are sites, their sums and gradients, and what stays as it was."""

import json

import fakequant
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO

import qat
from qat import QuantRecipe, QuantRule, models
from qat.analysis import layer_statistics
from qat.core.plan import make_plan
from qat.recipes.data import recipe_from_data, recipe_to_data
from qat.recipes.presets import label
from qat.recipes.recipe import activation_spec, weight_spec


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


P = {"a": {"kernel": array(6, 6)}, "b": {"kernel": array(6, 6, seed=1)}, "bias": array(6, seed=2)}
X, RECIPE = array(4, 6, seed=3), qat.recipe("w8a8(adds=True, edges='same')")


def dense(p, name, x):
    return x @ p[name]["kernel"]


def norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def scanned(p, x):
    return jax.lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, jnp.stack([p["a"]["kernel"]] * 3))[0]


COUNTS = {
    "around a layer": (1, lambda p, x: dense(p, "b", x + dense(p, "a", x))),
    "normalized and activated": (1, lambda p, x: dense(p, "b", norm(x) + jax.nn.gelu(norm(dense(p, "a", x))))),
    "of two layers, then of the sum": (
        2,
        lambda p, x: dense(p, "b", (h := dense(p, "a", x) + dense(p, "b", x)) + dense(p, "a", h)),
    ),
    "in jit and remat": (1, jax.jit(jax.checkpoint(lambda p, x: dense(p, "b", x + dense(p, "a", x))))),
    "in a scan over layers": (1, lambda p, x: dense(p, "b", scanned(p, x))),
    "of a bias": (0, lambda p, x: dense(p, "b", dense(p, "a", x) + p["bias"])),
    "of a full parameter": (0, lambda p, x: dense(p, "b", dense(p, "a", x) + jnp.broadcast_to(p["bias"], x.shape))),
    "inside of an activation": (0, lambda p, x: dense(p, "b", jax.nn.gelu(dense(p, "a", x), approximate=True))),
    "of one value and a part of it": (0, lambda p, x: dense(p, "b", (h := dense(p, "a", x)) + 0.5 * h[:, ::-1])),
    "of a mask": (0, lambda p, x: jax.nn.softmax(dense(p, "a", x) + jnp.where(x > 0, 0.0, -1e9)) @ p["b"]["kernel"]),
    "of what is broadcast": (0, lambda p, x: dense(p, "b", dense(p, "a", x) + x.mean(-1, keepdims=True))),
    "of inputs": (0, lambda p, x: dense(p, "b", x + jnp.tanh(x))),
    "of integers": (0, lambda p, x: dense(p, "b", x * (jnp.argmax(dense(p, "a", x)) + jnp.argmin(x)))),
    "that nothing multiplies": (0, lambda p, x: dense(p, "a", x) + dense(p, "b", x) + x),
}


@pytest.mark.parametrize("name", COUNTS)
def test_additions_that_join_branches_before_a_layer_are_sites(name):
    count, fn = COUNTS[name]
    with_adds, without = (qat.quantize(fn, r).sites(P, X) for r in (RECIPE, qat.recipe("w8a8(edges='same')")))
    assert sum(s.op == "add" for s in with_adds) == count
    assert [s.id for s in with_adds if s.op != "add"] == [s.id for s in without]
    assert all(s.macs == s.bytes == 0 and s.reason is None for s in with_adds if s.op == "add")


def residual(p, x):
    h = jax.nn.relu(dense(p, "a", x))
    return dense(p, "b", jax.nn.relu(h + dense(p, "b", h)))


def test_a_sum_is_that_of_its_operands_each_on_its_own_grid():
    def fn(p, x):
        with jax.named_scope("block"):
            return (dense(p, "a", x) + 9 * dense(p, "b", x)) @ jnp.ones((6, 1))  # a constant: it stays in float

    q = qat.quantize(fn, QuantRecipe((QuantRule(op="add", activations=activation_spec(4)), QuantRule()), adds=True))
    state, summed = q.calibrate(P, [X]), [s for s in q.sites(P, X) if s.op == "add"]
    assert [(s.id, s.activation_bits, s.operands) for s in summed] == [("block:add:0", 4, ("activation", "activation"))]
    sides = [dense(P, "a", X), 9 * dense(P, "b", X)]
    (a, inside_a), (b, inside_b) = (fakequant.fake_quant(side, activation_spec(4), None) for side in sides)
    np.testing.assert_allclose(q.simulate(P, state, X), (a + b).sum(1, keepdims=True), rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda p: q.simulate(p, state, X).sum())(P)
    for name, passed in ("a", inside_a), ("b", 9 * inside_b):
        np.testing.assert_allclose(gradient[name]["kernel"], np.asarray(X).T @ passed, rtol=1e-5)


def test_a_value_that_layers_and_additions_read_is_quantized_once():
    q = qat.quantize(residual, RECIPE)
    state = q.calibrate(P, [X])
    # The input, what both the second layer and the addition read, the layer's result, and the sum behind its ReLU.
    activations = {"a:dot_general:0/lhs", "b:dot_general:0/lhs", ":add:0/rhs", "b:dot_general:1/lhs"}
    assert {*state.clips} - {"a/kernel", "b/kernel"} == activations


def test_a_value_and_its_repeated_copy_in_an_addition_have_one_grid():
    def fn(p, x):
        h = dense(p, "a", x)
        twice = jax.lax.broadcast_in_dim(h, (4, 2, 6), (0, 2)).reshape(8, 6)
        return dense(p, "b", dense(p, "b", jnp.concatenate([x, x])) + twice), dense(p, "b", h)

    _check(fn, P, (X,), "w8a8(adds=True, edges='same')", None, 1)
    plan = make_plan(fn, RECIPE, P, (X,))
    read = {site.contraction.id: [o.key for o in site.operands] for site in plan.sites}
    assert read[":add:0"] == [":add:0/lhs", ":add:0/rhs"]
    assert read["b:dot_general:2"] == [":add:0/rhs", "b/kernel"]


def yolo_lite():
    net = models.build("yolo_lite(classes=2, width=8)")
    x = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3))
    variables = net.init(jax.random.key(0), x, train=False)
    return lambda v, x: net.apply(v, x, train=False), variables, (x,)


def of_zoo(name):
    case = ZOO[name]()
    return case.fn, case.params, case.inputs(2, None, 0)


MODELS = {"yolo_lite": (5, yolo_lite), "resnet_eval": (2, None), "bert": (4, None)}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_with_quantized_additions_serve_what_they_simulate(name, tmp_path):
    count, make = MODELS[name]
    fn, params, inputs = make() if make else of_zoo(name)
    _check(fn, params, inputs, "w8a8(adds=True)", tmp_path, count)


@pytest.mark.parametrize(
    ("fn", "recipe"),
    [
        (residual, "w8a8(adds=True)"),
        (COUNTS["in a scan over layers"][1], "w4a4(adds=True, quantizer='lsq', products=False)"),
    ],
    ids=["residual", "scanned"],
)
def test_quantized_additions_serve_what_they_simulate(fn, recipe, tmp_path):
    _check(fn, P, (X,), recipe, tmp_path, 1)


def _check(fn, params, inputs, recipe, tmp_path, count):
    q = qat.quantize(fn, qat.recipe(recipe))
    state = q.calibrate(params, [inputs])
    assert sum(s.op == "add" and s.reason is None for s in q.sites(params, *inputs)) == count
    converted = q.convert(params, state, *inputs)
    if tmp_path is not None:
        qat.save(tmp_path / "m.safetensors", converted)
        converted = qat.load(tmp_path / "m.safetensors", like=params)
    served = q.serve(converted, *inputs)
    jax.tree.map(np.testing.assert_array_equal, served, q.simulate(params, state, *inputs))
    for x, y in zip(*map(jax.tree.leaves, (served, fn(params, *inputs))), strict=True):
        assert float(jnp.abs(x - y).max()) < 0.1 * float(jnp.abs(y).max()) or "w4a4" in recipe


def test_products_of_parts_are_not_summed_as_codes():
    def fn(p, x):
        h = x + dense(p, "a", x)
        return jnp.concatenate([h, 100 * dense(p, "b", x)], -1) @ jnp.concatenate([p["a"]["kernel"], p["b"]["kernel"]])

    q = qat.quantize(fn, qat.recipe("w8a8(adds=True, parts=True, edges='same')"))
    assert [s.id for s in q.sites(P, X) if s.op == "add"] == [":add:0"]


def test_analysis_tells_the_noise_of_an_addition():
    q = qat.quantize(residual, RECIPE)
    layers = layer_statistics(q, P, q.calibrate(P, [X]), [X])
    (add,) = (layer for layer in layers.sites if layer.op == "add")
    assert add.output_sqnr_db > 30
    assert [(o.kind, o.bits) for o in add.operands] == [("activation", 8)] * 2


def test_dynamic_rules_leave_additions_in_float_and_say_so():
    rule = QuantRule(weights=weight_spec(), activations=activation_spec(dynamic=True))
    q = qat.quantize(residual, QuantRecipe((rule,), adds=True))
    (add,) = (s for s in q.sites(P, X) if s.op == "add")
    assert "dynamic" in add.reason


def test_recipes_without_additions_keep_their_digests_and_data():
    assert label(qat.recipe("w8a8")) == "w8a8#bd389e29"
    assert label(RECIPE) != label(qat.recipe("w8a8(edges='same')"))
    assert "adds" not in recipe_to_data(qat.recipe("w8a8"))
    assert recipe_from_data(json.loads(json.dumps(recipe_to_data(RECIPE)))) == RECIPE


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: qat.recipe("w8a8_dynamic(adds=True)"), "`adds` is for static activations"),
        (lambda: qat.recipe("w8", adds=True), "`adds` is for static activations"),
        (lambda: QuantRecipe((QuantRule(op="add"),)), "Set adds=True"),
    ],
)
def test_additions_that_a_recipe_cannot_quantize_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
