"""A quantized model that learns from the float one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from studies import BASE

from qat.lab.experiment import check
from qat.lab.experiment.config import override
from qat.lab.experiment.objective import Teacher, simulated_loss
from qat.lab.experiment.quantizing import Calibration, calibrate, quantized
from qat.lab.experiment.training import workload_of
from qat.recipes.presets import recipe
from qat.tasks.classification import divergence

RECIPE = "w4a4(observer='minmax')"
QAT = override(BASE, {"arm": "qat", "recipe": "w4a4", "distillation": 0.5})


def test_divergence_is_zero_for_equal_outputs_alone_and_that_of_the_probabilities():
    logits, other = jnp.array([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]]), jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert divergence(logits, logits + 5) == pytest.approx(0, abs=1e-6)
    p, q = jax.nn.softmax(other), jax.nn.softmax(logits)
    assert divergence(logits, other) == pytest.approx(float((p * jnp.log(p / q)).sum(-1).mean()), rel=1e-5)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_loss_is_the_tasks_and_the_teachers_in_parts(weight):
    workload = workload_of("cnn(width=4)", "digits")
    variables = dict(jax.jit(workload.functions.init)(jax.random.key(0), *workload.example()))
    ranges, _ = calibrate(workload, recipe(RECIPE), variables, Calibration(16, 1, 0))
    pair, batch = quantized(workload, recipe(RECIPE)), workload.batches(16, 0)[0]
    teacher = jax.tree.map(lambda x: 1.1 * x, variables)
    model = {"batch_stats": variables["batch_stats"]}
    state = {"model": model, "ranges": replace(ranges, learned={}, observers={}), "teacher": teacher}
    start, key = {"params": variables["params"], "learned": ranges.learned}, jax.random.key(1)

    def value(teacher):
        loss = simulated_loss(workload.task, pair.training.program, pair.inference.program, teacher)
        return loss(start, state, batch, key, frozen=True)[0]

    x = workload.task.inputs(batch)
    outputs = pair.inference.simulate(variables, ranges, *x)
    unlike = divergence(outputs, workload.functions.inference(teacher, *x))
    expected = (1 - weight) * value(None) + weight * unlike
    assert float(value(Teacher(workload.functions.inference, weight))) == pytest.approx(float(expected), rel=1e-6)


def test_a_teacher_is_refused_where_nothing_is_trained_quantized_or_the_task_has_no_loss_for_it():
    with pytest.raises(ValueError, match="`distillation` must be left out for arm 'ptq'"):
        override(QAT, {"arm": "ptq"})
    detector = override(QAT, {"model": "yolo_lite(width=8)", "data": "boards(images=8, held_out=0.5)"})
    with pytest.raises(ValueError, match=r"`distillation`: 'boards.* cannot compare outputs"):
        check([detector])
