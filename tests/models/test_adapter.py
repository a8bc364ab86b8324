"""The contract of a model: every form that a builder may return trains, infers, quantizes, and is stored."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from modelforms import CLASSES, FEATURES, FORMS
from ownparts import forgotten

import qat
from qat import data, models, tasks
from qat.lab.experiment.objective import float_examples, float_loss, simulated_loss
from qat.lab.experiment.quantizing import quantized_functions
from qat.lab.runs.models import read_result, read_variables, write_model, write_result
from qat.models.adapter import Forward, check_forward, forward
from qat.models.arguments import check_builder
from qat.train import TrainConfig, fit, per_example

X = np.random.default_rng(0).standard_normal((40, FEATURES)).astype(np.float32)
LABEL = (X @ np.random.default_rng(1).standard_normal((FEATURES, CLASSES))).argmax(1).astype(np.int32)
SOURCE = data.Columns({"image": X, "label": LABEL})
RECIPE = qat.recipe("w8a8")
TRAIN = TrainConfig(steps=60, batch_size=8, learning_rate=3e-2)


@pytest.fixture(scope="module", params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture(scope="module")
def net(form):
    with forgotten():
        models.register(form.build)
        yield forward(form.build.__name__, classes=CLASSES)


@pytest.fixture(scope="module")
def task(form):
    usual = tasks.build("classification")
    return replace(
        usual,
        inputs=lambda batch: form.inputs(batch["image"]),
        loss=lambda outputs, batch: usual.loss(form.logits(outputs), batch),
        examples=lambda outputs, batch: usual.examples(form.logits(outputs), batch),
    )


@pytest.fixture(scope="module")
def inputs(task):
    return task.arguments({"image": X[:4]})


@pytest.fixture(scope="module")
def variables(net, inputs):
    return jax.jit(net.init)(jax.random.key(0), *inputs)


@pytest.fixture(scope="module")
def trained(net, task, variables):
    """The result of a float training."""
    state = {name: part for name, part in variables.items() if name != "params"}
    return fit(float_loss(task, net), variables["params"], state, data.Batches(SOURCE, 8, 0), TRAIN, progress=False)


@pytest.fixture(scope="module")
def state_of(net, inputs, variables):
    q = quantized_functions(net, RECIPE).inference
    return q, q.calibrate(variables, [inputs])


def total_loss(task, fn, variables):
    batch = {"image": X, "label": LABEL}
    return float(task.loss(fn(variables, *task.arguments(batch)), batch)[0])


def same(one, other):
    leaves, structure = jax.tree.flatten(one)
    others, second = jax.tree.flatten(other)
    assert structure == second
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(leaves, others, strict=True))


def test_it_keeps_to_the_contract_and_its_weights_are_those_of_its_key(net, form, inputs, variables):
    abstract = check_forward(net, *inputs)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(lambda x: (x.shape, x.dtype), abstract)
    again, other = (net.init(jax.random.key(seed), *inputs) for seed in (0, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b)), again, variables))
    assert not same(other["params"], variables["params"])
    with forgotten():
        models.register(form.build)
        check_builder(form.build.__name__)


@pytest.mark.slow
def test_training_in_float_lowers_the_loss_and_moves_only_what_it_should(form, net, task, variables, trained):
    model = {"params": trained.params, **trained.state}
    before, after = (total_loss(task, net.inference, one) for one in (variables, model))
    assert after < 0.7 * before
    moved = {name for name, part in trained.state.items() if not same(part, variables[name])}
    assert moved == set(form.moves)
    assert jax.tree.structure({"params": trained.params, **trained.state}) == jax.tree.structure(variables)


def test_only_training_draws_from_the_key(form, net, inputs, variables):
    training = jax.jit(net.training)
    first, again, other = (training(variables, *inputs, jax.random.key(seed))[0] for seed in (0, 0, 1))
    assert same(first, again)
    assert same(first, other) != form.random
    inference = jax.jit(net.inference)
    assert same(inference(variables, *inputs), inference(variables, *inputs))


@pytest.mark.slow
def test_served_integers_are_the_simulated_ones_bit_for_bit(form, net, inputs, variables, state_of):
    q, state = state_of
    assert [site.path for site in q.sites(variables, *inputs) if site.rule is not None] == list(form.sites)
    simulated = q.simulate(variables, state, *inputs)
    served = q.serve(q.convert(variables, state, *inputs), *inputs)
    assert same(served, simulated)
    exact = form.logits(net.inference(variables, *inputs))
    assert float(np.abs(form.logits(served) - exact).max()) < 0.1


def test_the_last_short_batch_counts_each_example_once(net, task, variables):
    found = per_example(float_examples(task, net.inference), variables, data.in_order(SOURCE, 16))
    batch = {"image": X, "label": LABEL}
    right = task.examples(net.inference(variables, *task.arguments(batch)), batch)
    assert {name: len(x) for name, x in found.items()} == dict.fromkeys(right, 40)
    np.testing.assert_allclose(found["cross_entropy"], right["cross_entropy"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_trains_quantized_with_its_own_state(form, net, task, variables, state_of):
    ranges = state_of[1]
    pair = quantized_functions(net, RECIPE)
    loss = simulated_loss(task, pair.training.program, pair.inference.program)
    model = {name: part for name, part in variables.items() if name != "params"}
    start = {"params": variables["params"], "learned": ranges.learned}
    state = {"model": model, "ranges": replace(ranges.bare, learned={})}
    found = fit(loss, start, state, data.Batches(SOURCE, 8, 0), TRAIN, progress=False)
    trained = {"params": found.params["params"], **found.state["model"]}

    def simulated(variables, *inputs):
        return pair.inference.simulate(variables, ranges, *inputs)

    before, after = (total_loss(task, simulated, one) for one in (variables, trained))
    assert after < 0.7 * before
    moved = {name for name, part in found.state["model"].items() if not same(part, model[name])}
    assert moved == set(form.moves)


def test_variables_are_stored_and_read_as_they_are(variables, tmp_path):
    write_model(tmp_path, variables)
    assert same(read_variables(tmp_path), jax.tree.map(np.asarray, variables))
    write_result(tmp_path, {"variables": variables})
    assert same(read_result(tmp_path)["variables"], variables)


REGISTERED = {
    "bert": ("bert(size='tiny', vocabulary=50)", (np.ones((2, 8), np.int32), np.ones((2, 8), bool))),
    "cnn": ("cnn(width=4)", (np.ones((2, 8, 8, 1), np.float32),)),
    "yolo_lite": ("yolo_lite(width=8)", (np.ones((2, 64, 64, 2), np.float32),)),
}


def test_every_registered_model_is_looked_at():
    assert set(models.names()) >= set(REGISTERED)
    ours = {name for name in models.names() if "qat/models/" in str(models.models.sources(name)[0])}
    assert ours == set(REGISTERED)


@pytest.mark.parametrize("name", REGISTERED)
def test_registered_models_keep_to_the_contract(name):
    text, inputs = REGISTERED[name]
    check_builder(text)
    net = forward(text, classes=5, vocabulary=7)
    check_forward(net, *inputs)
    assert net is forward(text, classes=5, vocabulary=7)
    assert net.vocabulary == (50 if name == "bert" else None), "a builder's own default stays"


class Sows(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("losses", "size", jnp.square(x).mean())
        return nn.Dense(2)(x)


class Counts(nn.Module):
    @nn.compact
    def __call__(self, x):
        count = self.variable("seen", "count", lambda: jnp.zeros(()))
        count.value = count.value + 1
        return nn.Dense(2)(x)


class NnxCounts(nnx.Module):
    def __init__(self):
        self.w, self.count = nnx.Param(jnp.ones((FEATURES, 2))), nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] += 1
        return x @ self.w[...]


class AlwaysDrops(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=False)(x))


class AlwaysNoisy(nnx.Module):
    def __init__(self, rngs):
        self.out, self.rngs = nnx.Linear(FEATURES, 2, rngs=rngs), rngs.fork()

    def __call__(self, x):
        return self.out(x) + jax.random.normal(self.rngs.noise(), (2,))


def integer_params(key, x):
    return {"table": jnp.zeros((3, 2), jnp.int32)}


def slashed(key, x):
    return {"a/b": jnp.zeros((FEATURES, 2))}


BAD = {
    "nothing": (lambda: None, "must be a Linen module; an NNX module, .* its builder returned a NoneType"),
    "three functions": (lambda: (abs, abs, abs), "a pair of functions .* returned a tuple"),
    "NNX without rngs": (lambda: nnx.Linear(2, 2, rngs=nnx.Rngs(0)), "returned a Linear without `rngs`, so that every"),
    "Linen with rngs": (lambda rngs: Sows(), "must be a Linen module; .* its builder returned a Sows"),
    "sown": (lambda: Sows(), r"got \['losses'\]\['size'\].*return what the loss needs"),
    "grows": (
        lambda: Forward(lambda k, x: {"params": {"w": x}}, lambda v, x, k: (x, {"seen": x}), lambda v, x: x),
        r"must keep the structure of its variables in training: \['seen'\]: expected nothing",
    ),
    "dropout in inference": (lambda: AlwaysDrops(), 'no random numbers in inference.* "dropout".*`deterministic`'),
    "Linen writes in inference": (lambda: Counts(), 'change none of its variables in inference.*"count".*is_mutable'),
    "NNX writes in inference": (lambda rngs: NnxCounts(), "change none of its variables in inference.*count"),
    "noise in inference": (lambda rngs: AlwaysNoisy(rngs), "no random numbers in inference, but .*rngs"),
    "integers to train": (lambda: (integer_params, lambda p, x: x), "floating-point arrays, got int32 at params/table"),
    "a slash": (lambda: (slashed, lambda p, x: x @ p["a/b"]), "keys are text without '/', got"),
    "no collections": (lambda: Forward(lambda k, x: [x], lambda v, x, k: (x, {}), lambda v, x: x), "a dict of coll"),
    "no pair": (
        lambda: Forward(lambda k, x: {"params": {"w": x}}, lambda v, x, k: x, lambda v, x: x),
        r"must return \(outputs, collections that changed\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_model_that_fits_no_form_is_refused_with_the_forms(case):
    build, message = BAD[case]
    build.__name__ = "odd_model"
    with forgotten():
        models.register(build)
        with pytest.raises(ValueError, match=message):
            check_forward(forward("odd_model"), X[:2])


def wants(classes, vocabulary, width=3):
    raise AssertionError("never built")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wants", "needs `classes`, `vocabulary`, and its data set tells features=4"),
        ("wants(2)", r"needs `vocabulary`, .* such as wants\(vocabulary=...\), or .*Dataset\(sizes"),
        ("wants(weight=2)", r"unexpected keyword argument 'weight'. It takes wants\(classes, vocabulary, width=3\)"),
    ],
)
def test_a_size_that_nobody_tells_is_asked_for(text, message):
    with forgotten():
        models.register(wants)
        with pytest.raises(ValueError, match=message):
            forward(text, features=4)


def test_a_builder_gets_what_it_has_no_default_for_and_classes():
    seen = {}

    def asks(features, classes=10, vocabulary=30):
        seen.update(features=features, classes=classes, vocabulary=vocabulary)
        return FORMS["linen_without_flag"].build()

    with forgotten():
        models.register(asks)
        forward("asks", classes=4, vocabulary=99, features=(2, 3), more=1)
    assert seen == {"features": (2, 3), "classes": 4, "vocabulary": 30}
