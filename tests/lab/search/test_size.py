"""The size of a model's file is known before anything is trained."""

import functools

import jax
import numpy as np
import pytest
from boards import started
from studies import BASE

import qat
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import workload_of
from qat.lab.runs.models import serialized_variables
from qat.lab.search.size import converted_size, estimated_size

RECIPES = [  # that lay out a file each in its own way
    "w3a8_dynamic",
    "w4",
    "w8a8(group_size=16)",
    "w4a4(edges='float')",
    "w8a8(bits={'stem': 3, 'body': 2})",
]


def config(**changes):
    return BASE.model_copy(update={"model": "cnn(width=8)", **changes})


@functools.cache
def variables():
    workload = workload_of("cnn(width=8)", "digits")
    return workload, started(workload.functions.init, *workload.example())


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_estimated_size_is_that_of_the_file(recipe, tmp_path):
    workload, params = variables()
    q = quantized(workload, qat.recipe(recipe)).inference
    state = q.calibrate(params, [workload.example(8)])
    qat.save(tmp_path / "model.safetensors", q.convert(params, state, *workload.example()))
    size = (tmp_path / "model.safetensors").stat().st_size
    assert estimated_size(config(arm="ptq", recipe=recipe)) == size


def test_an_estimated_size_of_a_float_model_is_that_of_the_file():
    _, params = variables()
    assert estimated_size(config()) == len(serialized_variables(params))


def test_scanned_layers_tied_tables_and_embeddings_are_counted_as_they_are_stored(tmp_path):
    def model(params, ids):
        def layer(x, w):
            return jax.nn.relu(x @ w), None

        x, _ = jax.lax.scan(layer, params["table"][ids], params["layers"])
        return x @ params["table"].T + params["bias"]

    key = jax.random.key(0)
    params = {
        "table": jax.random.normal(key, (64, 32)),
        "layers": jax.random.normal(key, (3, 32, 32)),
        "bias": np.zeros(64, np.float32),
    }
    ids = np.arange(8)
    q = qat.quantize(model, qat.recipe("w4a8"))
    qat.save(tmp_path / "model.safetensors", q.convert(params, q.calibrate(params, [ids]), ids))
    size = (tmp_path / "model.safetensors").stat().st_size
    assert converted_size(q, params, ids) == size


def test_keys_among_the_parameters_are_counted_as_they_are_stored(tmp_path):
    def model(params, x):
        return x @ params["kernel"] + jax.random.normal(params["key"], (4,))

    params = {"kernel": np.ones((8, 4), np.float32), "key": jax.random.key(0)}
    x = np.ones((2, 8), np.float32)
    q = qat.quantize(model, qat.recipe("w8"))
    qat.save(tmp_path / "model.safetensors", q.convert(params, q.calibrate(params, [x]), x))
    assert converted_size(q, params, x) == (tmp_path / "model.safetensors").stat().st_size


def test_fewer_bits_of_one_layer_are_a_smaller_file():
    sizes = [estimated_size(config(arm="ptq", recipe=f"w8a8(bits={{'body': {bits}}})")) for bits in (8, 4, 2)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
