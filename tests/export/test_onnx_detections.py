"""Boxes and suppression as parts of an ONNX file of any batch: the detections that JAX gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_codes import run

from qat.export.onnx.export import to_onnx
from qat.tasks.detection.boxes import points
from qat.tasks.detection.decode import Suppression, detections

SIDE = 64
PLACES = len(points(SIDE, SIDE)[0])


def decode(params, logits, distances):
    outputs = {"logits": logits + params, "distances": distances}
    return detections(outputs, SIDE, SIDE, Suppression(candidates=40, detections=20))


def outputs(images):
    """Logits and distances of points of which many overlap."""
    keys = jax.random.split(jax.random.key(images))
    return 2 * jax.random.normal(keys[0], (images, PLACES, 3)), 16 * jax.random.uniform(keys[1], (images, PLACES, 4))


@pytest.fixture(scope="module")
def model():
    return to_onnx(decode, jnp.float32(0), *outputs(2), dynamic_batch=True)


@pytest.mark.parametrize("images", [1, 3])
def test_a_file_of_any_batch_gives_the_detections_of_jax(model, images):
    inputs = outputs(images)
    boxes, scores, labels = jax.jit(decode)(jnp.float32(0), *inputs)
    got = run(model, inputs)
    assert [x.shape for x in got] == [boxes.shape, scores.shape, labels.shape]
    np.testing.assert_array_equal(got[2], labels)
    np.testing.assert_allclose(got[1], scores, rtol=1e-5)
    np.testing.assert_allclose(got[0], boxes, rtol=1e-4, atol=1e-3)
    assert (np.asarray(labels) >= 0).sum() > 3 * images
