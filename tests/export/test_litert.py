"""LiteRT files: quantizers as the converter takes them, results near what is served, and clear refusals.

Tests that convert need an environment with litert-converter, which QAT_LITERT_PYTHON names, and the package
ai-edge-litert.
"""

import importlib.util
import sys
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.export import Exportable
from qat.export.exporter import ready
from qat.export.litert.annotate import annotated, computed, measured
from qat.export.litert.converter import VARIABLE, converter_python, to_flatbuffer
from qat.export.litert.quantizers import fake_quant, grid_of
from qat.export.litert.results import float_results
from qat.models.adapter import forward

NOTHING: Any = None


def has_converter() -> bool:
    if importlib.util.find_spec("ai_edge_litert") is None:
        return False
    try:
        converter_python()
    except ValueError:
        return False
    return True


converts = pytest.mark.skipif(not has_converter(), reason=f"{VARIABLE} names no Python with litert-converter")


def heads(params, x):
    """A dense layer, one whose channels lie along two axes, and an addition of a residual."""
    h = jax.nn.relu(x @ params["in"] + params["bias"])
    split = jnp.einsum("bi,ihd->bhd", h, params["split"]) + params["shift"]
    return jnp.tanh(split.reshape(len(x), -1)) + h


def made(recipe="w8a8(grid='affine')", fn=heads):
    rng = np.random.default_rng(0)
    shapes = {"in": (16, 24), "bias": (24,), "split": (24, 4, 6), "shift": (4, 6)}
    params = {name: jnp.asarray(rng.standard_normal(shape), jnp.float32) for name, shape in shapes.items()}
    x = jnp.asarray(rng.standard_normal((3, 16)), jnp.float32)
    q = qat.quantize(fn, qat.recipe(recipe))
    return q, q.convert(params, q.calibrate(params, [x]), x), x


@pytest.mark.parametrize(
    "recipe", ["w8a8(grid='affine')", "w8a8", "w4a8(grid='affine')", "w8a4(grid='affine')", "w8", "w8a8(adds=True)"]
)
def test_the_function_for_the_converter_computes_what_is_served(recipe):
    q, converted, x = made(recipe)
    served = np.asarray(q.serve(converted, x))
    assert np.abs(np.asarray(annotated(q, converted, x)(x)) - served).max() < 1e-3 * np.ptp(served)


def test_results_in_float_are_found_with_their_bias_and_clamp_and_quantized_on_measured_ranges():
    q, converted, x = made()
    one = annotated(q, converted, x)
    places = float_results(one, x)
    ids = {place.id: place.location for place in places}
    assert set(ids) == {"split:dot_general:0", "in:dot_general:0"}
    assert ids["split:dot_general:0"] in one.plan.quantized  # its bias is added after a reshape
    assert ids["in:dot_general:0"] not in one.plan.quantized
    from dataclasses import replace

    one = replace(one, places=places)
    ranges = measured(one, [(x,), (2 * x,)])
    assert ranges["in:dot_general:0"][0] == 0.0  # after the ReLU
    quantized, served = np.asarray(replace(one, ranges=ranges)(x)), np.asarray(q.serve(converted, x))
    assert 0 < np.abs(quantized - served).max() < 0.03 * np.ptp(served)
    with pytest.raises(ValueError, match="is not finite"):
        measured(one, [(x * jnp.nan,)])


def in_a_loop(params, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["layers"])[0]


def test_sites_that_litert_has_no_form_for_are_refused():
    params = {"layers": jnp.ones((2, 16, 16))}
    x = jnp.ones((1, 16))
    q = qat.quantize(in_a_loop, qat.recipe("w8a8"))
    converted = q.convert(params, q.calibrate(params, [x]), x)
    with pytest.raises(ValueError, match=r"LiteRT has no form for the site .* stands in a loop"):
        annotated(q, converted, x)
    q, converted, x = made("w8(group_size=8)")
    with pytest.raises(ValueError, match="scales for groups or along several axes"):
        annotated(q, converted, x)


def test_grids_span_the_range_and_zero():
    scale, zero = grid_of((0.5, 2.55))
    assert (scale, zero) == (pytest.approx(0.01), -128)
    scale, zero = grid_of((-1.0, 1.0))
    assert abs((-128 - zero) * scale + 1) < scale and abs((127 - zero) * scale - 1) < scale
    assert grid_of((0.0, 0.0)) == (1.0, -128)


def test_narrow_codes_are_cut_in_float():
    x = jnp.linspace(-3, 3, 61)
    found = np.unique(np.asarray(fake_quant(x, 0.1, 0, (-8, 7))))
    assert (found.min(), found.max(), len(found)) == (pytest.approx(-0.8), pytest.approx(0.7), 16)


def test_constants_are_computed_and_barriers_opened_but_biases_not_repeated():
    weight, bias = jnp.ones((8, 8)), jnp.arange(8.0)

    def fn(x):
        return x @ (jax.lax.optimization_barrier(weight) * 2 + 1) + jnp.exp(bias)[None]

    text = jax.make_jaxpr(computed(fn))(jnp.ones((64, 8)))
    names = Counter(eqn.primitive.name for eqn in text.eqns)
    assert not {"mul", "exp", "optimization_barrier"} & names.keys()
    assert max(np.size(c) for c in text.consts) == 64
    np.testing.assert_allclose(computed(fn)(jnp.ones((64, 8))), fn(jnp.ones((64, 8))), rtol=1e-6)


def test_a_missing_converter_is_told_with_the_commands_that_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ValueError, match=r"must be the path of a Python .*pip install litert-converter=="):
        converter_python()
    monkeypatch.setenv(VARIABLE, sys.executable)
    if importlib.util.find_spec("litert_converter") is None:
        with pytest.raises(ValueError, match=r"has no litert-converter. Make an environment for it"):
            to_flatbuffer(b"", ["x"], ["y"])
        monkeypatch.delenv(VARIABLE)
        with pytest.raises(ValueError, match="Make an environment for it, python -m venv"):
            converter_python()


def test_settings_and_batches_that_litert_cannot_have_are_refused():
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ValueError, match="`threads` must be a number from 1 on, got 0"):
        ready("litert(threads=0)")
    q, converted, x = made()
    with pytest.raises(ValueError, match="`batch` must be a number for the exporter 'litert'"):
        ready("litert", Exportable(q, converted, (x,), batch="dynamic"))


def test_a_form_that_was_never_compared_is_refused():
    q, converted, x = made("w8a8_dynamic")
    with pytest.raises(ValueError, match=r"its activations have dynamic ranges.* Give it a static range"):
        annotated(q, converted, x)


def operators(path) -> Counter:
    """How many operators of each kind and type of result a flatbuffer has."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    kinds, types = ({n: name for name, n in vars(c).items()} for c in (schema.BuiltinOperator, schema.TensorType))
    graph, found = model.subgraphs[0], Counter()
    for one in graph.operators:
        code = model.operatorCodes[one.opcodeIndex]
        found[kinds[max(code.builtinCode, code.deprecatedBuiltinCode)], types[graph.tensors[one.outputs[0]].type]] += 1
    return found


@converts
@pytest.mark.slow
def test_a_cnn_with_folded_norms_runs_in_integers_alone(tmp_path):
    functions = forward("cnn(width=8)", classes=10)
    x = jnp.asarray(np.random.default_rng(0).random((1, 16, 16, 3), np.float32))
    params = jax.jit(functions.init)(jax.random.key(0), x)
    fn = qat.fold_norms(functions.inference)
    q = qat.quantize(fn, qat.recipe_for("litert-cpu"))
    converted = q.convert(params, q.calibrate(params, [x]), x)
    served = np.asarray(q.serve(converted, x))
    plain = qat.export_model(tmp_path / "plain.tflite", fn, params, x, to="litert")
    int8 = qat.export_model(tmp_path / "int8.tflite", q, converted, x, to="litert", samples=[(x,)])
    np.testing.assert_allclose(qat.export.read(plain.path)(x), fn(params, x), atol=1e-5)
    assert np.abs(np.asarray(qat.export.read(int8.path)(x)) - served).max() < 0.02 * np.ptp(served)
    found = operators(int8.path)
    assert (found["CONV_2D", "INT8"], found["FULLY_CONNECTED", "INT8"]) == (3, 1)
    assert not any(kind in ("CONV_2D", "FULLY_CONNECTED", "ADD") and of == "FLOAT32" for kind, of in found)
    assert any("quantizes these results too" in note and "head" in note for note in int8.notes)


@converts
@pytest.mark.slow
def test_heads_and_a_table_run_near_what_is_served(tmp_path):
    functions = forward("bert(size='tiny', vocabulary=100, positions=16)", classes=2)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 100, (2, 8), dtype=np.int32))
    inputs = (tokens, jnp.ones((2, 8), bool))
    params = jax.jit(functions.init)(jax.random.key(0), *inputs)
    q = qat.quantize(functions.inference, qat.recipe_for("litert-cpu"))
    converted = q.convert(params, q.calibrate(params, [inputs]), *inputs)
    served = np.asarray(q.serve(converted, *inputs))
    for samples, bound in (((), 0.02), ((inputs,), 0.3)):
        done = qat.export_model(
            tmp_path / f"{bool(samples)}.tflite", q, converted, *inputs, to="litert", batch=2, samples=samples
        )
        assert np.abs(np.asarray(qat.export.read(done.path)(*inputs)) - served).max() < bound * np.ptp(served)
        assert operators(done.path)["FULLY_CONNECTED", "INT8"] >= (12 if samples else 6)
