"""A task that cannot use a model's outputs is found before anything is trained."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from ownparts import forgotten

from qat import data, tasks
from qat.lab.experiment.check import mismatches
from qat.lab.experiment.config import ExperimentConfig
from qat.tasks.task import check_task
from qat.train import TrainConfig

LOGITS = np.zeros((3, 4), np.float32)
BATCH = {"image": np.zeros((3, 2), np.float32), "label": np.zeros(3, np.int32)}
USUAL = tasks.build("classification")
BAD = {
    "loss alone": ({"loss": lambda y, batch: y.mean()}, "must return (loss, numbers to watch)"),
    "a loss for each": (
        {"loss": lambda y, batch: (y.mean(1), {})},
        "the loss in floating point, got `loss` float32[3]",
    ),
    "a loss that counts": (
        {"loss": lambda y, batch: (y.argmax(), {})},
        "the loss in floating point, got `loss` int32[]",
    ),
    "an array to watch": (
        {"loss": lambda y, batch: (y.mean(), {"right": y.mean(1)})},
        "must return numbers, the loss in floating point, got `right` float32[3]. Take the mean",
    ),
    "a mean of examples": (
        {"examples": lambda y, batch: {"error": y.mean(), "all": y}},
        "an entry for each of 3 examples, got `error` float32[]. Return the values before",
    ),
    "an array of examples": ({"examples": lambda y, batch: y}, "must return a dict of arrays, got a "),
}


def test_a_usual_task_is_right_for_any_tree_of_outputs():
    check_task(USUAL, LOGITS, BATCH, 3)
    nested = replace(
        USUAL,
        loss=lambda outputs, batch: USUAL.loss(outputs["logits"][0], batch),
        examples=lambda outputs, batch: {"size": jnp.abs(outputs["logits"][0]).sum(1)},
    )
    check_task(nested, {"logits": (LOGITS,)}, BATCH, 3)


@pytest.mark.parametrize("case", BAD)
def test_a_task_that_gives_something_else_is_refused(case):
    changes, message = BAD[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check_task(replace(USUAL, **changes), LOGITS, BATCH, 3)
    assert message in str(caught.value)


def test_a_misfit_of_a_task_is_told_with_the_data_that_ask_for_it():
    def mean_alone():
        return replace(USUAL, examples=BAD["a mean of examples"][0]["examples"])

    def digits_alike():
        return replace(data.build("digits"), task="mean_alone")

    with forgotten():
        tasks.register(mean_alone)
        data.register(digits_alike)
        config = ExperimentConfig(name="x", model="cnn(width=4)", data="digits_alike", train=TrainConfig(steps=2))
        [(field, said)] = mismatches([config])
    assert field == "data"
    assert "an entry for each of 2 examples, got `error`" in said
