"""A float model whose outputs are to agree whatever dropout leaves out."""

import jax
import pytest
from studies import BASE

from qat.lab.experiment import check
from qat.lab.experiment.config import override
from qat.lab.experiment.objective import Teacher, float_loss, simulated_loss
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import workload_of
from qat.recipes.presets import recipe
from qat.tasks.classification import divergence

TEXT = "bert(size='tiny', layers=1, width=32, heads=2, hidden=64, vocabulary=120, dropout={})"


@pytest.fixture(scope="module")
def batch():
    return workload_of(TEXT.format(0.0), "sentiment").batches(8, 0)[0]


def losses(dropout, batch, key, **more):
    """The plain loss, that with R-Drop, and the model's outputs under a key."""
    workload = workload_of(TEXT.format(dropout), "sentiment")
    variables = dict(jax.jit(workload.functions.init)(jax.random.key(0), *workload.example()))
    values = [
        float_loss(workload.task, workload.functions, weight)(variables["params"], {}, batch, key, **more)[0]
        for weight in (None, 3.0)
    ]
    return *values, lambda key: workload.functions.training(variables, *workload.task.inputs(batch), key)[0]


def test_two_draws_of_dropout_share_the_loss_and_are_to_agree(batch):
    key = jax.random.key(1)
    plain, both, outputs = losses(0.3, batch, key, frozen=False)
    other = jax.random.fold_in(key, 1)
    first, second = outputs(key), outputs(other)
    mean_divergence = (divergence(first, second) + divergence(second, first)) / 2
    mean = (plain + losses(0.3, batch, other, frozen=False)[0]) / 2
    assert float(mean_divergence) > 1e-5
    assert float(both) == pytest.approx(float(mean + 3 * mean_divergence), rel=1e-5)


@pytest.mark.parametrize(("dropout", "frozen"), [(0.0, False), (0.3, True)], ids=["no dropout", "frozen"])
def test_without_draws_the_loss_is_the_plain_one(batch, dropout, frozen):
    plain, both, _ = losses(dropout, batch, jax.random.key(1), frozen=frozen)
    assert float(both) == pytest.approx(float(plain), rel=1e-6)


def test_losses_that_compare_outputs_are_refused_where_the_task_cannot():
    workload = workload_of("yolo_lite(width=8)", "boards(images=8, held_out=0.5)")
    pair, teacher = quantized(workload, recipe("w8a8")), Teacher(workload.functions.inference, 0.5)
    with pytest.raises(ValueError, match=r"`r_drop` needs a task .* got that of metric 'map50_95'. Leave it out"):
        float_loss(workload.task, workload.functions, 1.0)
    with pytest.raises(ValueError, match=r"`distillation` needs a task .* got that of metric 'map50_95'. Leave it out"):
        simulated_loss(workload.task, pair.training.program, pair.inference.program, teacher)


def test_r_drop_is_refused_where_the_task_cannot_compare_outputs():
    detector = {"model": "yolo_lite(width=8)", "data": "boards(images=8, held_out=0.5)", "r_drop": 1.0}
    with pytest.raises(ValueError, match=r"`r_drop`: 'boards.* cannot compare outputs"):
        check([override(BASE, detector)])
