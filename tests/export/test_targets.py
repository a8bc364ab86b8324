"""Targets: what each site runs in on a runtime and why, and recipes that suit it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat import QuantRecipe, QuantRule, models
from qat.export import targets
from qat.export.target_check import TargetCheck, check_target, require_target
from qat.export.targets import recipe_for
from qat.recipes.presets import recipe
from qat.recipes.recipe import activation_spec, weight_spec

NAMES = ["edgetpu", "gpu-xla", "litert-cpu", "openvino-cpu", "ort-cpu", "tensorrt", "tpu"]


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


P = {name: {"kernel": array(1, 1, 8, 8, seed=i)} for i, name in enumerate("abc")}
P |= {"head": {"kernel": array(8, 8, seed=5)}, "bias": array(8), "table": array(9, 8)}
X, IDS = array(4, 1, 1, 8, seed=7), np.arange(4)[:, None, None]


def kernel(p, name, x):
    """A layer as a convolution of 1 x 1, which ONNX Runtime runs in integers only where its result is quantized."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, p[name]["kernel"], (1, 1), "SAME", dimension_numbers=numbers)


def network(p, x, ids):
    """Attention, a look-up, layers and additions: sites of all kinds but depthwise convolutions."""
    x = kernel(p, "a", x + p["table"][ids]) + p["bias"]
    h = jax.nn.relu(x) + kernel(p, "b", jax.nn.relu(x))
    h = h.reshape(4, 8)
    h = jax.nn.softmax(h @ h.T) @ h
    return h @ p["head"]["kernel"]


def checked(fn, rules, target, *inputs):
    return check_target(qat.quantize(fn, rules), P, *inputs, target=target)


def test_the_targets_are_known_by_their_names_and_their_identifiers():
    assert targets.names() == NAMES
    assert all(targets.build(name).name == name for name in NAMES)
    assert targets.build("ort_cpu") == targets.build("ort-cpu")


def test_an_unknown_target_is_refused_with_a_hint():
    with pytest.raises(ValueError, match=r"Unknown target 'ort-cpux'. Known: edgetpu, .* Did you mean 'ort-cpu'\?"):
        targets.build("ort-cpux")
    with pytest.raises(ValueError, match="Unknown target"):
        recipe_for("cpu(1)")


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_tells_its_source_and_year(name):
    registered = dict(targets.targets.described())
    line = next(doc for signature, doc in registered.items() if signature.startswith(name.replace("-", "_")))
    assert line.startswith(f"`{name}`: ")
    documented = getattr(targets, name.replace("-", "_")).__doc__
    assert any(f"20{year}" in documented for year in range(18, 27))


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_of_a_target_passes_its_check_and_is_a_presets_text(name):
    rules = recipe_for(name)
    assert recipe(rules.name) == rules
    q = qat.quantize(network, rules)
    found = require_target(q, P, X, IDS, target=name)
    assert found.satisfied and [site.id for site in found.sites] == [s.id for s in q.sites(P, X, IDS)]
    assert {site.runs for site in found.sites} <= {"integers", "float"}
    profile = targets.build(name)
    assert all(site.kind in profile.kinds for site in found.sites if site.runs == "integers")


def layers(p, x):
    return kernel(p, "c", jax.nn.relu(kernel(p, "b", jax.nn.relu(kernel(p, "a", x))))).mean()


CASES = {
    "in a chain": (layers, "w8a8", ["integers", "integers", "float"], "`reduce_sum` reads it in float"),
    "behind a bias": (
        lambda p, x: kernel(p, "b", kernel(p, "a", x) + p["bias"]) @ p["head"]["kernel"],
        "w8a8",
        None,
        "",
    ),
    "a norm": (
        lambda p, x: kernel(p, "b", (kernel(p, "a", x) - p["bias"]) * p["bias"]) @ p["head"]["kernel"],
        "w8a8",
        ["float", "integers", "integers"],
        "a norm or scale between it",
    ),
    "an addition of floats": (
        lambda p, x: kernel(p, "b", x + kernel(p, "a", x)) @ p["head"]["kernel"],
        "w8a8",
        ["float", "integers", "integers"],
        "adds=True",
    ),
    "an addition": (
        lambda p, x: (x + kernel(p, "a", x)) @ p["head"]["kernel"],
        "w8a8(adds=True)",
        ["integers", "integers", "integers"],
        "",
    ),
    "read in float": (lambda p, x: kernel(p, "b", jnp.tanh(kernel(p, "a", x))), "w8a8", ["float", "float"], "`tanh`"),
    "four bits": (layers, "w4a4(edges='same')", None, "codes of 4 bits are stored in 8 bits"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_site_runs_in_integers_where_all_that_reads_it_does(name):
    fn, text, runs, said = CASES[name]
    found = checked(fn, recipe(text), "ort-cpu", X)
    assert said in repr(found).replace("\n", " ")
    assert runs is None or [site.runs for site in found.sites] == runs
    assert found.satisfied


def test_a_loop_is_not_known():
    def fn(p, x):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(kernel({"a": {"kernel": w}}, "a", x)), None), x, p)[0]

    q = qat.quantize(fn, recipe("w8a8"))
    (site,) = check_target(q, jnp.stack([P["a"]["kernel"]] * 2), X, target="edgetpu").sites
    assert (site.runs, site.recipe) == ("unknown", False)


def dense(p, x):
    return x @ p["head"]["kernel"]


REFUSED = {
    "zero points": (recipe("w8a8"), "tensorrt", "grid='symmetric'"),
    "dynamic ranges": (recipe("w8a8_dynamic"), "ort-cpu", "dynamic ranges per token"),
    "groups": (recipe("w8a8(group_size=4)"), "openvino-cpu", "scales per group"),
    "weights alone": (recipe("w4", edges="same"), "edgetpu", "weights of 4 bits alone"),
    "odd weights": (
        QuantRecipe((QuantRule(weights=weight_spec(grid="affine"), activations=activation_spec()),)),
        "litert-cpu",
        "its weights have a zero point",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_target_that_a_recipe_cannot_satisfy_is_one_error_with_the_remedy(name):
    rules, target, said = REFUSED[name]
    q = qat.quantize(dense, rules)
    assert not check_target(q, P, X, target=target).satisfied
    with pytest.raises(ValueError, match="does not suit") as caught:
        require_target(q, P, X, target=target)
    assert said in str(caught.value) and f"qat.recipe_for({target!r})" in str(caught.value)


def test_weights_alone_are_told_apart_from_integers():
    found = checked(dense, recipe_for("ort-cpu", 4, None, edges="same"), "ort-cpu", X)
    assert {site.runs for site in found.sites} == {"weights"} and found.share == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: recipe_for("edgetpu", 4, None), "multiplies no weights of 4 bits with float activations. Quantize"),
        (lambda: recipe_for("tensorrt", 8, None), "only of 4"),
        (lambda: recipe_for("tensorrt", grid="affine"), "takes symmetric activations"),
        (lambda: recipe_for("ort-cpu", 9), "Unknown recipe"),
        (lambda: recipe("w8", grid="symmetric"), "`grid` is for static activations"),
    ],
)
def test_a_recipe_that_a_target_has_no_form_for_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def abstract(model, shape):
    net = models.build(model)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(lambda key, x: net.init(key, x, train=False), jax.random.key(0), x)
    return lambda v, x: net.apply(v, x, train=False), variables, x


def test_all_of_a_detector_runs_in_integers_where_its_norms_are_folded():
    fn, variables, x = abstract("yolo_lite(classes=2, width=8)", (1, 64, 64, 3))

    def share(fn, text) -> TargetCheck:
        return check_target(qat.quantize(fn, recipe(text)), variables, x, target="ort-cpu")

    assert {s.runs for s in share(qat.fold_norms(fn), "w8a8(adds=True)").sites} == {"integers"}
    assert share(fn, "w8a8(adds=True)").share < 0.05
    assert 0.1 < share(qat.fold_norms(fn), "w8a8").share < 0.9  # additions of floats keep the rest
