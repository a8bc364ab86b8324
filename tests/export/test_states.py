"""Calibrations on disk: they simulate and convert as before, and no other file is taken for one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from often import slow_after
from safetensors.numpy import save as foreign

import qat
from qat.core.state import label_of
from qat.export.trees import finished, load_tree, save_tree

RECIPES = ["w8a8", "w8a8_dynamic", "w4a4(quantizer='lsq')", "w4a8(group_size=8)"]


def two_layers(params, x):
    return jax.nn.relu(x @ params["in"]["kernel"]) @ params["out"]


def calibrated(recipe, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    x, first, second = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in ((4, 16), (16, 24), (24, 8)))
    q, params = qat.quantize(two_layers, qat.recipe(recipe)), {"in": {"kernel": first}, "out": second}
    with jax.disable_jit():  # op by op: equal layers compile once
        return q, params, x, q.calibrate(params, [(x,)])


def again(path, state):
    qat.save_state(path, state)
    return qat.load_state(path)


def assert_equal(a, b):
    """To the last bit, of the same dtypes and shapes."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jax.typeof(one) == jax.typeof(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", slow_after(2, RECIPES))
def test_a_loaded_state_simulates_and_converts_bit_for_bit(tmp_path, recipe, dtype):
    q, params, x, state = calibrated(recipe, dtype)
    loaded = again(tmp_path / "state", state)
    for part in ("clips", "learned"):
        assert_equal(getattr(loaded, part), getattr(state, part))
    assert label_of(loaded.recipe) == label_of(state.recipe) == q.label
    with jax.disable_jit():
        assert_equal(q.simulate(params, loaded, x), q.simulate(params, state, x))
        assert_equal(q.convert(params, loaded, x), q.convert(params, state, x))


def test_learned_values_are_those_that_were_trained(tmp_path):
    _, _, _, state = calibrated("w4a4(quantizer='lsq')", jnp.bfloat16)
    trained = qat.QuantState(state.clips, jax.tree.map(lambda x: x * 1.25, state.learned), recipe=state.recipe)
    assert_equal(again(tmp_path / "state", trained).learned, trained.learned)


def test_a_loaded_state_runs_under_its_own_recipe_alone(tmp_path):
    _, params, x, state = calibrated("w4a4")
    other = qat.quantize(two_layers, qat.recipe("w8a8"))
    with pytest.raises(ValueError, match="was made for the recipe w4a4#"):
        other.simulate(params, again(tmp_path / "state", state), x)


def test_equal_states_are_equal_files(tmp_path):
    state = calibrated("w4a8")[3]
    for name in "ab":
        qat.save_state(tmp_path / name, state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_of_another_kind_are_refused_with_what_reads_them(tmp_path):
    q, params, x, state = calibrated("w8a8")
    model, calibration, stage, variables = (tmp_path / name for name in ("model", "calibration", "stage", "variables"))
    with jax.disable_jit():
        qat.save(model, q.convert(params, state, x))
    qat.save_state(calibration, state)
    save_tree(stage, {"variables": params})
    variables.write_bytes(finished(foreign({"kernel": np.ones(3)})))
    with pytest.raises(ValueError, match=r"model' holds a converted model. `qat.load\(path\)` reads it"):
        qat.load_state(model)
    with pytest.raises(ValueError, match=r"calibration' holds a calibration. `qat.load_state\(path\)` reads it"):
        qat.load(calibration)
    for read in (qat.load, qat.load_state):
        with pytest.raises(ValueError, match=r"stage' holds the result of a sweep's stage. `qat.lab.load_trial\("):
            read(stage)
        with pytest.raises(ValueError, match=r"variables' holds the variables of a float model. `qat.lab.load_trial\("):
            read(variables)
    with pytest.raises(ValueError, match="calibration' holds a calibration"):
        load_tree(calibration)


def test_foreign_and_damaged_files_are_refused_by_name(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(ValueError, match=r"no calibration at .*state'. `qat.save_state\(path, state\)` writes one"):
        qat.load_state(path)
    path.write_bytes(foreign({"kernel": np.ones(3)}))
    with pytest.raises(ValueError, match=r"state' is no calibration of this format: expected 'qat-state-1', got None"):
        qat.load_state(path)
    qat.save_state(path, calibrated("w8a8")[3])
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"state' is damaged .*Save the state again"):
            qat.load_state(path)


def test_what_is_no_state_is_refused_before_anything_is_written(tmp_path):
    q, params, x, state = calibrated("w8a8")
    with jax.disable_jit():
        model = q.convert(params, state, x)
    wrongs: tuple[Any, ...] = (model, params, None)
    for wrong in wrongs:
        with pytest.raises(ValueError, match="`save_state` takes a path and what `calibrate` returns, got"):
            qat.save_state(tmp_path / "state", wrong)
    with pytest.raises(ValueError, match="`save_state` takes a path"):
        qat.save_state(state, tmp_path / "state")  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())
