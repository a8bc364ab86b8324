"""The loss of a detector: what it asks for, and that nothing in it is ever not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from boards import boards
from truth import ASSIGN, truth

from qat.tasks.detection.boxes import points
from qat.tasks.detection.loss import DetectionLoss

LOSS = DetectionLoss()
CENTRES, SIZES = points(64, 64)
BATCH = {name: jnp.asarray(x) for name, x in boards(4).items()}


@jax.jit
def value(logits, distances, boxes=BATCH["boxes"], labels=BATCH["labels"]):
    return LOSS(logits, distances, CENTRES, SIZES, boxes, labels)


@jax.jit
def gradients(logits, distances, boxes=BATCH["boxes"], labels=BATCH["labels"]):
    """The loss, and its gradients by logits and by distances."""
    (loss, _), found = jax.value_and_grad(value, (0, 1), has_aux=True)(logits, distances, boxes, labels)
    return loss, found


def guesses(seed=0):
    logits, distances = jax.random.normal(jax.random.key(seed), (2, 4, len(CENTRES), 4))
    return logits[..., :2], 8 * jax.nn.softplus(distances)


def test_the_loss_of_what_is_true_is_nothing():
    loss, watched = value(*truth(BATCH))
    assert float(loss) < 1e-4
    assert float(watched["iou"]) == pytest.approx(1, abs=1e-4)


def test_the_loss_falls_as_predictions_come_nearer_to_the_truth():
    near, start = truth(BATCH), guesses()
    mixed = [[(1 - t) * s + t * n for s, n in zip(start, near, strict=True)] for t in (0.0, 0.5, 0.8, 0.95, 1.0)]
    losses = [float(value(*one)[0]) for one in mixed]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("what", ["class", "box"])
def test_a_wrong_class_costs_and_so_does_a_wrong_box(what):
    logits, distances = truth(BATCH)
    wrong = (logits[..., ::-1], distances) if what == "class" else (logits, distances + 4.0)
    assert float(value(*wrong)[0]) > 0.1


def test_rows_without_an_object_do_not_matter():
    more = [
        jnp.pad(BATCH["boxes"], ((0, 0), (0, 3), (0, 0))),
        jnp.pad(BATCH["labels"], ((0, 0), (0, 3)), constant_values=-1),
    ]
    (first, plain), (second, padded) = gradients(*guesses()), gradients(*guesses(), *more)
    assert float(first) == float(second)
    for a, b in zip(plain, padded, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0], ids=["flat", "usual", "sure"])
@pytest.mark.parametrize("objects", [True, False], ids=["objects", "no object"])
def test_value_and_gradient_are_finite(scale, objects):
    boxes, labels = BATCH["boxes"], BATCH["labels"]
    if not objects:
        boxes, labels = jnp.zeros_like(boxes), jnp.full_like(labels, -1)
    logits, distances = guesses()
    loss, found = gradients(scale * logits, scale * distances, boxes, labels)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in found)


def test_without_an_object_only_the_classes_are_trained():
    empty = jnp.zeros_like(BATCH["boxes"]), jnp.full_like(BATCH["labels"], -1)
    _, (by_logits, by_distances) = gradients(*guesses(), *empty)
    assert np.abs(by_logits).max() > 0
    assert np.abs(by_distances).max() == 0


def test_only_points_that_stand_for_an_object_are_asked_for_a_box():
    _, (_, by_distances) = gradients(*guesses())
    _, positive = ASSIGN(CENTRES, SIZES, BATCH["boxes"], BATCH["labels"] >= 0)
    np.testing.assert_array_equal(np.abs(by_distances).max(-1) > 0, positive)
