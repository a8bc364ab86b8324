"""The detection task: what it makes of a batch and of outputs, and detectors as one function, quantized too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from boards import CLASSES, Small, boards, started
from truth import truth

import qat
from qat import tasks
from qat.lab.experiment.objective import float_examples, float_loss
from qat.models.adapter import Forward
from qat.tasks.detection.boxes import points
from qat.tasks.detection.decode import Suppression, detections, detector

TASK = tasks.build(f"detection(class_names={CLASSES})")
MODULE = Small(len(CLASSES), width=16)
NET = Forward(
    init=lambda key, x: MODULE.init(key, x, train=False),
    training=lambda variables, x, key: (MODULE.apply(variables, x, train=True), {}),
    inference=lambda variables, x: MODULE.apply(variables, x, train=False),
)
BATCH = boards(4, seed=5)
(IMAGES,) = TASK.inputs(BATCH)
VARIABLES = started(NET.init, IMAGES)
STEP = jax.jit(jax.value_and_grad(float_loss(TASK, NET), has_aux=True), static_argnames="frozen")


@jax.jit
def the_truth():
    """Outputs that say what is true."""
    logits, distances = truth(BATCH)
    return {"logits": logits, "distances": distances}


def test_images_of_zeros_and_ones_stay_and_photographs_are_scaled():
    (plain,) = TASK.inputs({"image": np.array([[[[0], [1]]]], np.uint8)})
    (scaled,) = TASK.inputs({"image": np.array([[[[0], [255]]]], np.uint8), "scale": np.array([1 / 255], np.float32)})
    for image in (plain, scaled):
        assert image.dtype == jnp.float32
        assert image.ravel().tolist() == [0, 1]


def test_each_example_is_scaled_by_its_own_factor():
    image = np.ones((2, 1, 1, 3), np.uint8)
    (scaled,) = TASK.inputs({"image": image, "scale": np.array([1, 0.5], np.float32)})
    assert np.asarray(scaled)[:, 0, 0, 0].tolist() == [1, 0.5]


def test_examples_are_detections_beside_the_truth():
    found = jax.jit(float_examples(TASK, NET.inference))(VARIABLES, BATCH)
    count = min(100, 2 * len(points(64, 64)[0]))  # two classes
    assert {name: x.shape for name, x in found.items()} == {
        "boxes": (4, count, 4),
        "scores": (4, count),
        "labels": (4, count),
        "target_boxes": (4, 3, 4),
        "target_labels": (4, 3),
    }
    np.testing.assert_array_equal(found["target_boxes"], BATCH["boxes"])
    np.testing.assert_array_equal(found["target_labels"], BATCH["labels"])


def test_boxes_end_at_the_border_of_the_image():
    count = len(points(64, 96)[0])
    outputs = {"logits": jnp.ones((1, count, 2)), "distances": jnp.full((1, count, 4), 500.0)}
    found = jax.jit(detections, static_argnums=(1, 2))(outputs, 64, 96)
    assert found.boxes[0, 0].tolist() == [0, 0, 96, 64]


def test_the_truth_as_outputs_scores_one():
    found = jax.jit(TASK.examples)(the_truth(), BATCH)
    summary = TASK.summary({name: np.asarray(x) for name, x in found.items()})
    assert summary[TASK.metric.name] == pytest.approx(1.0)
    assert TASK.metric.name == "map50_95"
    assert summary["f33/hollow"] == 1.0


def test_outputs_that_are_true_cost_nothing():
    assert float(jax.jit(TASK.loss)(the_truth(), BATCH)[0]) < 1e-4


@pytest.mark.parametrize("objects", [True, False], ids=["objects", "no object"])
def test_a_training_step_has_finite_gradients(objects):
    batch = BATCH if objects else {**BATCH, "labels": np.full_like(BATCH["labels"], -1)}
    (loss, (_, watched)), gradients = STEP(VARIABLES["params"], {}, batch, jax.random.key(0), frozen=False)
    assert np.isfinite(loss) and all(np.isfinite(x) for x in watched.values())
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_a_detector_is_one_function_of_variables_and_images():
    found = jax.jit(detector(NET.inference))(VARIABLES, IMAGES)
    expected = jax.jit(float_examples(TASK, NET.inference))(VARIABLES, BATCH)
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-4)  # compiled apart
    assert found.boxes.shape == expected["boxes"].shape


def test_the_network_inside_a_detector_can_be_simulated_and_served():
    q = qat.quantize(NET.inference, qat.recipe("w8a8"))
    state = q.calibrate(VARIABLES, [(IMAGES,)])
    int8 = q.convert(VARIABLES, state, IMAGES)
    simulated = jax.jit(detector(lambda v, x: q.simulate(v, state, x)))(VARIABLES, IMAGES)
    served = jax.jit(detector(q.serve))(int8, IMAGES)
    for first, second in zip(simulated, served, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_whole_detector_can_be_quantized_and_its_sites_are_the_networks():
    whole = qat.quantize(detector(NET.inference, Suppression(candidates=20, detections=10)), qat.recipe("w8a8"))
    network = qat.quantize(NET.inference, qat.recipe("w8a8"))
    assert [s.id for s in whole.sites(VARIABLES, IMAGES)] == [s.id for s in network.sites(VARIABLES, IMAGES)]
    state = whole.calibrate(VARIABLES, [(IMAGES,)])
    found = whole.serve(whole.convert(VARIABLES, state, IMAGES), IMAGES)
    assert found.boxes.shape == (4, 10, 4)
    outputs = network.serve(network.convert(VARIABLES, state, IMAGES), IMAGES)
    np.testing.assert_allclose(found.scores[:, 0], jax.nn.sigmoid(outputs["logits"]).max((1, 2)), rtol=1e-6)
