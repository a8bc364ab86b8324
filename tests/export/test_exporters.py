"""Every registered exporter: pure, with a description that refuses damage, other models and other inputs."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ownparts import forgotten

import qat
from qat.export import Exportable, Runnable, exporters
from qat.export.description import digest_of
from qat.export.exporter import checked, ready
from qat.export.litert.converter import converter_python

NOTHING: Any = None
CLOSE = 0.05  # of the outputs' range; runtimes round otherwise


def two_layers(params, x):
    return jax.nn.relu(x @ params["in"] + params["bias"]) @ params["out"]


def made(seed=0, recipe="w8a8") -> tuple[dict[str, tuple[Any, Any]], Any, np.ndarray]:
    """A float model and the same quantized: for each the function, its variables and the outputs on inputs."""
    rng = np.random.default_rng(seed)
    first, bias, second, x = (
        jnp.asarray(rng.standard_normal(n), jnp.float32) for n in ((16, 24), 24, (24, 8), (3, 16))
    )
    params = {"in": first, "bias": bias, "out": second}
    q = qat.quantize(two_layers, qat.recipe(recipe))
    converted = q.convert(params, q.calibrate(params, [x]), x)
    return {"float": (two_layers, params), "int8": (q, converted)}, x, np.asarray(q.serve(converted, x))


MODELS, X, SERVED = made()


@pytest.fixture(params=exporters.names())
def to(request):
    """Each registered exporter whose packages are installed."""
    for package in exporters.build(request.param).packages:
        pytest.importorskip(package)
    if request.param == "litert":
        try:
            converter_python()
        except ValueError as error:
            pytest.skip(str(error))
    return request.param


def copies(tree):
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_an_export_is_pure_and_reads_back_as_the_model(to, kind, tmp_path):
    model, variables = MODELS[kind]
    before = copies(variables)
    written = [qat.export_model(tmp_path / name, model, variables, X, to=to) for name in ("a", "b")]
    assert same(variables, before)
    assert written[0].path.read_bytes() == written[1].path.read_bytes()
    assert written[0].bytes == len(written[0].path.read_bytes())
    found = qat.export.read(written[0].path, variables)
    if not isinstance(found, Runnable):
        assert same(found, variables)
        return
    about = found.description
    assert (about.model, about.recipe) == (digest_of(variables), None if kind == "float" else model.label)
    assert [spec.dtype for spec in about.inputs.values()] == ["float32"]
    got = np.asarray(jax.tree.leaves(found(X if about.batch == "dynamic" else X[: about.batch]))[0])
    expected = SERVED if kind == "int8" else np.asarray(two_layers(variables, X))
    assert np.abs(got - expected[: len(got)]).max() < CLOSE * np.ptp(expected)


def test_another_model_is_refused(to, tmp_path):
    written = qat.export_model(tmp_path / "model", *MODELS["int8"], X, to=to)
    with pytest.raises(ValueError, match="holds another model: it was exported from"):
        qat.export.read(written.path, made(seed=1)[0]["int8"][1])
    with pytest.raises(ValueError, match="holds another model"):
        qat.export.read(written.path, MODELS["float"][1])


def test_damage_is_refused(to, tmp_path):
    file = qat.export_model(tmp_path / "model", *MODELS["int8"], X, to=to).path
    content = file.read_bytes()
    for damaged, said in (
        (content[:-7], f"cut off or of another export: {len(content)} bytes were written, {len(content) - 7} are"),
        (content[:-7] + b"damaged", "damaged or of another export than model.json describes"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=said):
            qat.export.read(file)
    file.unlink()
    with pytest.raises(ValueError, match="there is no exported model at"):
        qat.export.read(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: {**values, "format": 99}, "was written by a newer qat"),
        (lambda values: {}, "is no description of an exported model"),
        (lambda values: [], "is no description of an exported model"),
        (lambda values: {**values, "inputs": 3}, "is damaged"),
        (lambda values: {**values, "kind": "stone"}, "Unknown exporter 'stone'"),
        (lambda values: {**values, "more": 1}, "unknown field more"),
    ],
)
def test_descriptions_that_are_not_as_written_are_refused(tmp_path, change, said):
    file = qat.export_model(tmp_path / "model", *MODELS["int8"], X, to="safetensors").path
    beside = file.with_name("model.json")
    beside.write_text(json.dumps(change(json.loads(beside.read_text()))))
    with pytest.raises(ValueError, match=said):
        qat.export.read(file)
    beside.unlink()
    with pytest.raises(ValueError, match=r"An export is two files, model and model\.json"):
        qat.export.read(file)


def with_a_scalar(params, x, factor):
    return two_layers(params, x) * factor


@pytest.mark.parametrize(
    ("model", "inputs", "options", "said"),
    [
        ("int8", (X,), {"to": "onyx"}, "Unknown exporter 'onyx'"),
        ("int8", (X,), {"to": "safetensors(level=3)"}, "unexpected keyword argument 'level'"),
        ("int8", (X,), {"batch": 0}, "`batch` must be a number from 1 on or 'dynamic', got 0"),
        ("int8", (), {}, "arrays with one batch as their first axis"),
        ("int8", (X, X[:2]), {}, r"first axis, got shapes \[\(3, 16\), \(2, 16\)\]"),
        ("mixed", (X,), {}, "exported with what `convert` returns, got dict"),
        ("swapped", (X,), {}, "a float function of"),
        ("other", (X,), {}, "was made for the recipe"),
        ("int8", (X,), {"target": "ort-gpu"}, "Unknown target 'ort-gpu'"),
        ("dynamic", (X,), {"target": "ort-cpu"}, "does not suit ort-cpu"),
        ("scalar", (X, 2.0), {}, r"got shapes \[\(3, 16\), \(\)\]. Bind"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, model, inputs, options, said):
    (fn, params), (q, converted) = MODELS["float"], MODELS["int8"]
    given = {
        **MODELS,
        "mixed": (q, params),
        "swapped": (fn, converted),
        "other": (qat.quantize(fn, qat.recipe("w4a8")), converted),
        "dynamic": made(recipe="w8a8_dynamic")[0]["int8"] if model == "dynamic" else None,
        "scalar": (with_a_scalar, params),
    }[model]
    with pytest.raises(ValueError, match=said):
        qat.export_model(tmp_path / "model", *given, *inputs, **{"to": "safetensors", **options})
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_there_and_a_file_that_is_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be in a folder that is there"):
        qat.export_model(tmp_path / "none" / "model", *MODELS["int8"], X, to="safetensors")
    with pytest.raises(ValueError, match="is a folder"):
        qat.export_model(tmp_path, *MODELS["int8"], X, to="safetensors")


def test_a_missing_package_and_a_batch_that_a_format_cannot_have_are_told():
    with forgotten():

        @exporters.register
        def stone():
            """Needs what is not installed, and one batch."""
            return qat.export.Exporter(".stone", lambda _: NOTHING, lambda *_: None, packages=packages, dynamic=False)

        packages = ("no_such_package",)
        with pytest.raises(ValueError, match=r"needs the package no_such_package.*pip install 'jax-qat\[export\]'"):
            ready("stone")
        packages = ()
        with pytest.raises(ValueError, match="`batch` must be a number for the exporter 'stone', got 'dynamic'"):
            ready("stone", Exportable(*MODELS["int8"], inputs=(X,), batch="dynamic"))
    assert "stone" not in exporters.names()


@pytest.mark.parametrize(
    ("fn", "inputs", "names"),
    [
        (lambda params, tokens, mask: 0, (X, X), ("tokens", "mask")),
        (lambda params, *inputs: 0, (X, X), ("input_0", "input_1")),
        (lambda params, *inputs: 0, (X,), ("input",)),
        (lambda params, batch: 0, ({"tokens": X, "mask": X},), ("mask", "tokens")),
        (lambda params, a, b: 0, ({"x": X}, {"x": X}), ("a_x", "b_x")),
        (lambda params, pair: 0, ((X, X),), ("pair_0", "pair_1")),
    ],
)
def test_inputs_are_named_as_the_function_names_them(fn, inputs, names):
    assert checked(Exportable(fn, {}, inputs)).input_names == names


def test_a_model_that_asks_for_its_batch_as_a_number_gets_a_file_of_one(tmp_path):
    pytest.importorskip("onnx")
    found = qat.export_model(
        tmp_path / "a.onnx", lambda w, x: x.reshape(len(x), -1) @ w, jnp.ones((4, 2)), jnp.ones((3, 2, 2)), to="onnx"
    )
    assert "The batch is 1: '_DimExpr' object cannot be interpreted" in found.notes[-1]
