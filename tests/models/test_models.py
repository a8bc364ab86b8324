"""The contract of every registered classifier, and what the small one reaches on real data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qat import data, models
from qat.train import TrainConfig, evaluate, fit

OTHERS = {"bert", "yolo_lite"}  # of texts, and a detector: tests/bert and tests/test_yolo_lite.py
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))


@pytest.fixture(params=sorted({*models.names()} - OTHERS), scope="module")
def model(request):
    return models.build(request.param, classes=7)


@pytest.fixture(scope="module")
def variables(model):
    return jax.jit(lambda key: model.init(key, IMAGES, train=False))(jax.random.key(0))


def test_a_model_gives_one_row_of_logits_per_image(model, variables):
    assert model.apply(variables, IMAGES, train=False).shape == (4, 7)


def test_serving_looks_at_each_image_alone(model, variables):
    together = model.apply(variables, IMAGES, train=False)
    alone = model.apply(variables, IMAGES[:1], train=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)  # another batch size, another summation order


def test_only_training_changes_the_running_statistics(model, variables):
    _, trained = model.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
    _, served = model.apply(variables, IMAGES, train=False, mutable=["batch_stats"])
    equal = [
        jax.tree.all(jax.tree.map(jnp.array_equal, new["batch_stats"], variables["batch_stats"]))
        for new in (trained, served)
    ]
    assert equal == [False, True]


def test_an_unknown_model_is_refused_with_the_near_one():
    with pytest.raises(ValueError, match=r"Unknown model 'cn'.*Did you mean 'cnn'"):
        models.build("cn")


def test_the_cnn_learns_handwritten_digits():
    digits = data.build("digits")
    net = models.build("cnn(width=16)", classes=digits.classes)

    def loss(params, state, batch, key, *, frozen):
        logits, state = net.apply({"params": params, **state}, batch["image"], train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), (dict(state), {})

    def metric(variables, batch):
        logits = jnp.asarray(net.apply(variables, batch["image"], train=False))
        return {"accuracy": logits.argmax(-1) == batch["label"]}

    state = jax.jit(lambda key: net.init(key, jnp.zeros((1, 8, 8, 1)), train=False))(jax.random.key(0))
    params = state.pop("params")
    config = TrainConfig(steps=60, batch_size=64, learning_rate=1e-2, warmup_steps=10, devices=1)
    result = fit(loss, params, state, data.Batches(digits.splits["train"], 64, seed=0), config)
    variables = {"params": result.params, **result.state}
    assert evaluate(metric, variables, data.in_order(digits.splits["test"], 128))["accuracy"] >= 0.95
