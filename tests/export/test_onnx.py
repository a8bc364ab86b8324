"""Exported ONNX models give what the functions give, in ONNX Runtime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from qat.export.onnx.export import to_onnx  # noqa: E402


def outputs(model, *inputs):
    options = runtime.SessionOptions()
    # Without VNNI instructions ONNX Runtime sums pairs of products in 16 bits, which saturate, unless told otherwise.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = runtime.InferenceSession(model.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = dict(zip(model.inputs, map(np.asarray, jax.tree.leaves(inputs)), strict=True))
    return session.run(list(model.outputs), feeds)


def normal(key, *shape):
    return jax.random.normal(jax.random.key(key), shape)


def convnet(params, x):
    x = jax.lax.conv_general_dilated(x, params["conv"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.relu(x + params["bias"])
    x = jax.lax.conv_general_dilated(x, params["next"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(x).mean((1, 2)) @ params["head"] + params["offset"]


PARAMS = {
    "conv": normal(0, 3, 3, 4, 8) / 6,
    "bias": normal(1, 8) / 4,
    "next": normal(2, 3, 3, 8, 8) / 8,
    "head": normal(3, 8, 5),
    "offset": normal(4, 5),
}
IMAGES = normal(5, 4, 8, 8, 4)


@pytest.mark.parametrize("opset", [17, 21])
def test_a_float_function_gives_the_same_in_onnx(opset):
    model = to_onnx(convnet, PARAMS, IMAGES, opset=opset)
    np.testing.assert_allclose(outputs(model, IMAGES)[0], convnet(PARAMS, IMAGES), rtol=1e-4, atol=1e-5)


def test_dynamic_ranges_are_computed_in_the_graph():
    def fn(params, x):
        return jax.nn.relu(x @ params["head"])

    x = normal(6, 4, 8)
    q = qat.quantize(fn, qat.recipe("w8a8_dynamic"))
    converted = q.convert(PARAMS, q.calibrate(PARAMS, [x]), x)
    np.testing.assert_allclose(outputs(to_onnx(q, converted, x), x)[0], q.serve(converted, x), rtol=1e-5, atol=1e-6)


def test_a_quantized_function_gives_what_serving_gives():
    q = qat.quantize(convnet, qat.recipe("w8a8"))
    converted = q.convert(PARAMS, q.calibrate(PARAMS, [IMAGES]), IMAGES)
    model = to_onnx(q, converted, IMAGES)
    assert "1 of the quantized convolutions run in float" in model.notes[0] and "next" in model.notes[0]
    want = np.asarray(q.serve(converted, IMAGES))
    assert np.abs(outputs(model, IMAGES)[0] - want).max() < 1e-3 * np.abs(want).max()


def test_notes_tell_what_the_file_does_differently():
    q = qat.quantize(lambda p, i: jnp.take(p["head"], i, axis=0) @ p["head"].T, qat.recipe("w8a8"), check_nan=True)
    i = jnp.array([0, 3])
    converted = q.convert(PARAMS, q.calibrate(PARAMS, [i]), i)
    notes = " ".join(to_onnx(q, converted, i).notes)
    assert "`check_nan` is left out" in notes and "must be in range" in notes and "convolution" not in notes


def test_what_has_no_lowering_is_told_all_at_once():
    def fn(params, x):
        return jax.lax.erf_inv(jax.lax.digamma(x @ params))

    with pytest.raises(ValueError, match=r"digamma, erf_inv"):
        to_onnx(fn, jnp.eye(2), jnp.ones((1, 2)))
