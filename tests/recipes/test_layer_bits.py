"""Bits of single layers in a preset: `w8a8(bits={'head': 4})`."""

import jax
import jax.numpy as jnp
import pytest
from test_recipes import PATHS, WEIGHTS, model

import qat
from qat import quantize
from qat.recipes.presets import recipe
from qat.recipes.recipe import weight_spec


def test_bits_of_single_layers_change_their_weights_alone_and_the_edges_with_them():
    name = "w8a4(bits={'encoder/0': 3, 'head': 2, 'encoder': 5})"
    found = {
        s.path: (s.weight_bits, s.activation_bits) for s in quantize(model, recipe(name)).sites(WEIGHTS, jnp.arange(3))
    }
    assert found == {"embed": (8, None), "encoder/0/dense": (3, 8), "encoder/1/dense": (5, 4), "head": (2, 8)}


def test_a_layer_with_bits_of_its_own_takes_the_observer_that_such_bits_take():
    specs = dict(recipe("w8a8(bits={'head': 4, 'embed': 8})").weights)
    assert specs == {"head": weight_spec(4, observer="mse"), "embed": weight_spec(8)}
    assert dict(recipe("w4(group_size=3, observer='ema', bits={'head': 2})").weights) == {
        "head": weight_spec(2, per="group", group_size=3, observer="ema")
    }


def test_a_layer_with_bits_of_its_own_is_quantized_even_where_its_rule_leaves_it_in_float():
    found = {
        s.path: s
        for s in quantize(model, recipe("w4a4(edges='float', bits={'head': 2})")).sites(WEIGHTS, jnp.arange(3))
    }
    assert (found["head"].weight_bits, found["head"].activation_bits) == (2, None)
    assert found["encoder/0/dense"].reason == "its rule leaves it in float"


def test_a_pair_of_bits_is_for_weights_and_activations():
    q = quantize(model, recipe("w4a4(bits={'encoder/0': (6, 5), 'encoder': 3})"))
    found = {s.path: (s.weight_bits, s.activation_bits) for s in q.sites(WEIGHTS, jnp.arange(3))}
    assert found == {"embed": (4, None), "encoder/0/dense": (6, 5), "encoder/1/dense": (3, 4), "head": (8, 8)}


def test_an_activation_that_several_layers_read_takes_the_most_bits_that_any_asks():
    def two(params, x):
        return jax.nn.relu(x @ params["in"]) @ params["a"] + jax.nn.relu(x @ params["in"]) @ params["b"]

    def shared(params, x):
        h = jax.nn.relu(x @ params["in"])
        return h @ params["a"] + h @ params["b"]

    params = {name: jnp.ones((4, 4)) for name in ("in", "a", "b")}
    for fn, bits in ((shared, (6, 6)), (two, (3, 6))):
        sites = quantize(fn, recipe("w3a3(edges='same', bits={'b': (3, 6)})")).sites(params, jnp.ones((2, 4)))
        assert tuple(s.activation_bits for s in sites if s.path in "ab") == bits


def test_layers_that_differ_in_bits_alone_run_the_program_of_the_preset():
    name = "w4a4(edges='same', observer='mse', bits={'head': (8, 8), 'encoder': (6, 6)})"
    plain, own = (quantize(model, recipe(text)) for text in ("w4a4(edges='same', observer='mse')", name))
    assert plain.program == own.program


@pytest.mark.parametrize(
    "name", ["w8a8(bits={'head': %d, 'encoder/0': %d})", "w4a4(edges='float', bits={'head': %d, 'embed': %d})"]
)
def test_recipes_that_differ_in_the_bits_of_single_layers_share_one_compiled_program(name):
    programs = [quantize(model, recipe(name % bits)).program for bits in ((2, 8), (8, 3))]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("name", ["w8a8(bits={'encoder': 3, 'head': 2})", "w4a4(edges='float', bits={'head': 2})"])
def test_bits_of_single_layers_serve_what_they_simulate_and_reach_the_file(name, tmp_path):
    params = {path: jax.random.normal(jax.random.key(i), (6, 6)) for i, path in enumerate(PATHS)}
    q = quantize(model, recipe(name))
    state = q.calibrate(params, [jnp.arange(6)])
    int8 = q.convert(params, state, jnp.arange(6))
    assert (q.serve(int8, jnp.arange(6)) == q.simulate(params, state, jnp.arange(6))).all()
    qat.save(tmp_path / "model.safetensors", int8)
    assert qat.load(tmp_path / "model.safetensors").weights["head"].bits == 2


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"encoder/2": 4}, r"`weights` of 'encoder/2' matches no site. Nearest paths: encoder/[01]/dense"),
        ({"encoder": 4, "dense": 3}, "`weights` of 'dense' matches 2 sites, but earlier rules take them all"),
    ],
    ids=["no_site", "shadowed"],
)
def test_bits_that_no_layer_gets_are_an_error(bits, message):
    with pytest.raises(ValueError, match=message):
        quantize(model, recipe("w8a8", bits=bits)).sites(WEIGHTS, jnp.arange(3))


def test_layers_whose_observers_are_those_of_other_rules_are_calibrated_by_their_own():
    """Edges take minmax and the rest mse; swapped by layer, these are the same two specs, at other layers."""
    rules = recipe("w4a4(bits={'embed': 4, 'head': (4, 4), 'encoder': (8, 8)})")
    alone = recipe("w4a4(edges='same', bits={'head': (4, 4), 'encoder/0': (8, 8), 'encoder/1': (8, 8)})")
    x = jnp.arange(3)
    found, want = (quantize(model, one).calibrate(WEIGHTS, [x]) for one in (rules, alone))
    assert found.clips.keys() == want.clips.keys()
    for key, clip in want.clips.items():
        same = jax.tree.map(lambda a, b: bool((a == b).all()), clip, found.clips[key])
        assert all(jax.tree.leaves(same)), key
