"""A state, a converted tree and its file know their recipe, and run under no other unless that is said."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

import qat
from qat.analysis import layer_statistics, output_error
from qat.core.state import as_characters, as_tree, from_tree, label_of
from qat.export.trees import load_tree, save_tree
from qat.recipes.presets import label
from qat.transform import _simulate


def array(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def compiled(jitted) -> int:
    """How many programs a jitted function has compiled."""
    return jitted._cache_size()


def fn(w, x):
    return x @ w


X, W = array(4, 6), array(6, 3, seed=1)
HIGH, LOW = (qat.quantize(fn, qat.recipe(name, edges="same")) for name in ("w8a8", "w2a4"))
STATE = HIGH.calibrate(W, [X])
INT8 = HIGH.convert(W, STATE, X)
USES = {
    "simulate": lambda q, state: q.simulate(W, state, X),
    "observe": lambda q, state: q.simulate(W, state, X, observe=True),
    "convert": lambda q, state: q.convert(W, state, X),
    "statistics": lambda q, state: layer_statistics(q, W, state, [X]),
    "error": lambda q, state: output_error(q, W, state, [X]),
    "compiled": lambda q, state: jax.jit(lambda w: q.simulate(w, state, X))(W),
}


@pytest.mark.parametrize("use", USES)
def test_a_state_of_another_recipe_is_refused(use):
    message = r"`state` was made for the recipe .*#\w{8}, this function has .*`q.adopt\(state\)`"
    with pytest.raises(ValueError, match=message):
        USES[use](LOW, STATE)
    USES[use](HIGH, STATE)


def test_a_converted_tree_of_another_recipe_is_refused_from_a_file_too(tmp_path):
    qat.save(tmp_path / "model", INT8)
    for made in (INT8, qat.load(tmp_path / "model")):
        with pytest.raises(ValueError, match=r"`converted` was made for the recipe"):
            LOW.serve(made, X)
        np.testing.assert_array_equal(HIGH.serve(made, X), HIGH.simulate(W, STATE, X))


def test_a_mix_that_is_meant_is_taken_with_its_own_bits():
    np.testing.assert_array_equal(LOW.simulate(W, LOW.adopt(STATE), X), HIGH.simulate(W, STATE, X))
    np.testing.assert_array_equal(LOW.serve(LOW.adopt(INT8), X), HIGH.serve(INT8, X))
    assert label_of(LOW.convert(W, LOW.adopt(STATE), X).recipe) == LOW.label


def test_what_is_made_of_a_state_has_its_recipe():
    _, observed = HIGH.simulate(W, STATE, X, observe=True)
    made = (
        STATE,
        observed,
        INT8,
        replace(STATE, learned={}),
        jax.jit(lambda x: x)(STATE),
        jax.jit(HIGH.convert)(W, STATE, X),
    )
    assert {label_of(one.recipe) for one in made} == {HIGH.label}


def test_the_same_rules_under_another_name_are_the_same_recipe():
    other = qat.quantize(fn, replace(HIGH.recipe, name="mine"))
    np.testing.assert_array_equal(other.simulate(W, STATE, X), HIGH.simulate(W, STATE, X))
    assert HIGH.label.startswith("w8a8#") and other.label == HIGH.label.replace("w8a8", "mine")


def test_a_label_is_of_one_length_and_ends_in_the_digest():
    long = qat.recipe("w4a4(bits={'a_long_name_of_a_layer': 8, 'another_one': (8, 8)})")
    for recipe in (long, qat.recipe("w4a4"), qat.recipe("w4a4(observer='ema')")):
        assert label_of(as_characters(label(recipe))) == label(recipe)
        assert as_characters(label(recipe)).shape == (64,)
    assert len({label(qat.recipe(name)).split("#")[1] for name in ("w4a4", "w4a4(observer='ema')", "w4a8", "w4")}) == 4


def test_a_state_on_disk_keeps_its_recipe_and_one_without_is_of_no_known_recipe(tmp_path):
    save_tree(tmp_path / "state", as_tree(STATE))
    assert label_of(from_tree(load_tree(tmp_path / "state")).recipe) == HIGH.label
    old = {name: part for name, part in as_tree(STATE).items() if name != "recipe"}
    unknown = from_tree(old)
    assert unknown.recipe is None
    np.testing.assert_array_equal(LOW.simulate(W, unknown, X), HIGH.simulate(W, STATE, X))  # as its structure fits


def test_a_file_without_a_recipe_is_still_read(tmp_path):
    qat.save(tmp_path / "old", HIGH.convert(W, replace(STATE, recipe=None), X))
    loaded = qat.load(tmp_path / "old")
    assert loaded.recipe is None
    np.testing.assert_array_equal(HIGH.serve(loaded, X), HIGH.serve(INT8, X))
    with safe_open(tmp_path / "old", "numpy") as file:
        assert file.metadata()["format"] == "qat-1"


def test_the_recipe_of_a_state_is_no_part_of_what_is_compiled():
    HIGH.simulate(W, STATE, X)
    before = compiled(_simulate)
    low = LOW.calibrate(W, [X])
    LOW.simulate(W, low, X)
    assert compiled(_simulate) == before
    step = jax.jit(lambda w, state: HIGH.program.simulate(w, state, X))
    for state in (STATE, low):
        step(W, replace(state, observers={}))
    assert compiled(step) == 1
