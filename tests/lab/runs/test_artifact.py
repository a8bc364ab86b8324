"""Stored trees come back as they were, and what is no such file is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.core.state import as_tree, from_tree
from qat.export.trees import load_tree, save_tree
from qat.lab.runs.models import read_variables, write_model

TREE = {
    "params": {"dense": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3, jnp.bfloat16)}},
    "codes": [jnp.arange(4, dtype=jnp.int8), (jnp.int32(3), jnp.zeros((0, 2)))],
    "empty": {},
}


def test_a_tree_comes_back_with_its_structure_dtypes_and_values(tmp_path):
    save_tree(tmp_path / "tree", TREE)
    found = load_tree(tmp_path / "tree")
    assert jax.tree.structure(found) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(TREE), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_other_nodes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="dicts, lists and tuples"):
        save_tree(tmp_path / "tree", {"state": qat.QuantState({})})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not a tensor file", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "tree"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_tree(path)


def test_a_file_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="damaged"):
        load_tree(path)


@pytest.mark.parametrize("recipe", ["w8a8", "w8a8_dynamic", "w4a4(quantizer='lsq')"])
def test_a_quantization_state_comes_back_from_its_tree(tmp_path, recipe):
    q = qat.quantize(lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"], qat.recipe(recipe))
    params, x = {"a": jnp.ones((4, 8)), "b": jnp.ones((8, 2))}, jnp.linspace(-1, 1, 12).reshape(3, 4)
    state = q.calibrate(params, [x])
    save_tree(tmp_path / "state", as_tree(state))
    again = from_tree(load_tree(tmp_path / "state"))
    np.testing.assert_array_equal(q.simulate(params, again, x), q.simulate(params, state, x))


def test_equal_models_are_equal_files(tmp_path):
    q = qat.quantize(lambda p, x: x @ p["a"], qat.recipe("w4a8"))
    params, x = {"a": jnp.linspace(-1, 1, 32).reshape(4, 8)}, jnp.ones((3, 4))
    model = q.convert(params, q.calibrate(params, [x]), x)
    contents = set()
    for number in range(8):  # the library itself writes the metadata in another order about every second time
        qat.save(tmp_path / str(number), model)
        contents.add((tmp_path / str(number)).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.int32, jnp.uint8, jnp.bool])
def test_float_models_keep_the_dtypes_of_their_variables(tmp_path, dtype):
    variables = {
        "params": {"dense": {"kernel": jnp.arange(6).reshape(2, 3).astype(dtype)}},
        "state": {"n": jnp.int32(3)},
    }
    write_model(tmp_path, variables)
    found = read_variables(tmp_path)
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    for one, other in zip(*map(jax.tree.leaves, (found, variables)), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
