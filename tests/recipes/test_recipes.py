"""Recipes say what is quantized, and say so when they would quantize nothing."""

import jax
import jax.numpy as jnp
import pytest

import qat
from qat import QuantRecipe, QuantRule, TensorSpec, quantize
from qat.recipes.presets import recipe
from qat.recipes.recipe import activation_spec, weight_spec

W8, W4 = QuantRule(weights=TensorSpec(8)), QuantRule(weights=TensorSpec(4))
PATHS = ("embed", "encoder/0/dense", "encoder/1/dense", "head")
WEIGHTS = {path: jnp.ones((6, 6)) for path in PATHS}


def model(params, ids):
    """An embedding, two layers and a head."""
    x = params["embed"][ids]
    for path in PATHS[1:]:
        with jax.named_scope(path):
            x = x @ params[path]
    return x


def sites(rules, **edges):
    found = quantize(model, QuantRecipe(tuple(rules), **edges)).sites(WEIGHTS, jnp.arange(3))
    return {s.path: s for s in found}


@pytest.mark.parametrize("weights", range(2, 9))
@pytest.mark.parametrize("activations", [None, *range(2, 9)])
def test_presets_are_named_after_their_bits(weights, activations):
    rule = recipe(f"w{weights}" + (f"a{activations}" if activations else "")).rules[0]
    assert rule.weights == weight_spec(weights, observer="minmax" if weights == 8 else "mse")
    if activations is None:
        assert rule.activations is None
    else:
        assert rule.activations == activation_spec(activations, observer="minmax" if activations == 8 else "mse")


def test_a_dynamic_preset_takes_a_symmetric_range_for_each_token():
    rule = recipe("w4a8_dynamic").rules[0]
    assert rule.activations == TensorSpec(8, per="token", dynamic=True)


def test_the_edges_of_a_preset_take_more_bits_or_stay_in_float():
    found = {
        s.path: (s.weight_bits, s.activation_bits)
        for s in quantize(model, recipe("w4a2")).sites(WEIGHTS, jnp.arange(3))
    }
    assert found == {"embed": (4, None), "encoder/0/dense": (8, 8), "encoder/1/dense": (4, 2), "head": (8, 8)}
    assert recipe("w4a4", edges="same").first is None
    assert recipe("w4a4", edges="float").last == QuantRule()
    assert recipe("w8a8", edges=6).first == recipe("w8a8", edges=6).rules[0]


@pytest.mark.parametrize("name", ["w4a4(quantizer='lsq', edges='same')", " w4a4 ( edges='same',quantizer='lsq') "])
def test_options_may_stand_in_the_name(name):
    given = recipe("w4a4", quantizer="lsq", edges="same")
    assert recipe(name).rules == given.rules and recipe(name).first == given.first
    assert recipe(name).name == name


def test_options_in_the_name_win_over_those_beside_it():
    assert recipe("w4(group_size=32)", group_size=64).rules[0].weights == weight_spec(
        4, per="group", group_size=32, observer="mse"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("w8a9", r"Unknown recipe 'w8a9'\. Known: w8a8, .* and the like\. Did you mean 'w8a8'\?"),
        ("w0", "Unknown recipe 'w0'"),
        ("w8_dynamic", "Did you mean 'w8a8_dynamic'"),
        ("w8a8(4)", "Unknown recipe"),
        ("w8a8(width=4)", "unexpected keyword argument 'width'"),
        ("w8a8(bits=4)", r"`bits` must map regular expressions on paths to bits, such as {'head': 4}, got 4"),
        ("w8a8(bits={'head': 9})", r"`bits` must be an integer in \[2, 8\], got 9"),
        ("w8a8(bits={'enc(oder': 4})", r"`weights` 'enc\(oder' is no regular expression"),
        ("w8a8(observer='emaa')", "Unknown observer 'emaa'. Known: .* Did you mean 'ema'"),
        (
            "w8a8(quantizer='lqs')",
            "Unknown quantizer 'lqs'. Known: dorefa, ewgs, lsq, lsq_plus, pact, stable, ste. Did you mean 'lsq'",
        ),
        ("w8a8(edges='floats')", "`edges` must be a number of bits, 'float' or 'same', got 'floats'"),
        ("w8a8(edges=9)", r"`bits` must be an integer in \[2, 8\], got 9"),
        ("w8a8(edges=open('x'))", "expected a name or a call with literal arguments"),
        ("8 bits", "expected a name or a call with literal arguments"),
    ],
)
def test_a_preset_that_does_not_exist_is_refused_with_a_hint(name, message):
    with pytest.raises(ValueError, match=message):
        recipe(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"bits": 1},
            r"`bits` must be an integer in \[2, 8\], got 1. One bit needs grid='midrise'",
        ),
        ({"bits": 16}, r"`bits` must be an integer in \[2, 8\], got 16"),
        ({"grid": "log"}, "`grid` must be one of symmetric, affine, unsigned, midrise, got 'log'"),
        ({"per": "row"}, "`per` must be one of tensor, channel, group, token, part, got 'row'"),
        ({"per": "group"}, "`group_size` goes with per='group', got per='group', group_size=None"),
        ({"group_size": 8}, "`group_size` goes with per='group', got per='tensor', group_size=8"),
        ({"per": "group", "group_size": 0}, "`group_size` must be at least 1, got 0"),
        ({"per": "token"}, "per='token' needs dynamic=True"),
        ({"quantizer": "lsq", "dynamic": True}, "quantizer 'lsq' learns scale: it needs dynamic=False"),
        ({"observer": "percentil(99)"}, "Unknown observer 'percentil'. .* Did you mean 'percentile'"),
        ({"observer": "percentile(99"}, "expected a name or a call with literal arguments"),
        ({"observer": "ema(speed=1)"}, "observer 'ema.speed=1.': .* unexpected keyword argument 'speed'"),
    ],
    ids=str,
)
def test_a_spec_of_nothing_that_exists_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TensorSpec(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "enc(oder"}, r"`pattern` 'enc\(oder' is no regular expression: missing \)"),
        ({"op": "dot"}, "`op` must be one of dot_general, conv, embedding, add, got 'dot'"),
        ({"weights": TensorSpec(per="token", dynamic=True)}, "`weights` cannot be per='token'"),
        (
            {"activations": TensorSpec(per="channel")},
            "`activations` are per='tensor', .*'part', got 'channel'",
        ),
    ],
    ids=str,
)
def test_a_rule_that_cannot_hold_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        QuantRule(**options)


def test_the_first_rule_that_matches_wins():
    found = sites([QuantRule("encoder/1", weights=TensorSpec(4)), QuantRule("encoder", weights=TensorSpec(3)), W8])
    assert [found[path].weight_bits for path in PATHS] == [8, 3, 4, 8]


def test_a_rule_may_be_for_one_op_alone():
    found = sites([QuantRule(op="embedding", weights=TensorSpec(4))])
    assert found["embed"].weight_bits == 4
    assert all(found[path].rule is None and found[path].reason == "no rule matches" for path in PATHS[1:])


def test_a_rule_without_specs_leaves_its_sites_in_float():
    found = sites([QuantRule("head"), W8])
    assert found["head"].rule is None and found["head"].reason == "its rule leaves it in float"
    assert found["encoder/0/dense"].weight_bits == 8


def test_the_outermost_layers_may_have_rules_of_their_own():
    found = sites([W4], first=QuantRule(), last=W8)
    assert found["encoder/0/dense"].reason == "its rule leaves it in float"
    assert [found[path].weight_bits for path in PATHS] == [4, None, 4, 8]


def test_a_rule_that_matches_nothing_is_an_error_that_lists_near_misses():
    with pytest.raises(
        ValueError, match=r"rule 0 \('encoder/2/dense'\) matches no site. Nearest paths: encoder/[01]/dense"
    ):
        sites([QuantRule("encoder/2/dense", weights=TensorSpec()), W8])


def test_a_rule_for_an_op_that_is_not_there_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"rule 1 \('.\*' with op 'conv'\) matches no site"):
        sites([W8, QuantRule(op="conv", weights=TensorSpec())])


def test_a_rule_behind_one_that_takes_all_its_sites_is_an_error():
    with pytest.raises(
        ValueError, match=r"rule 1 \('head'\) matches 1 sites, but earlier rules take them all. Move it up"
    ):
        sites([W8, QuantRule("head")])


def test_a_rule_given_twice_is_an_error():
    with pytest.raises(ValueError, match=r"rule 1 .* earlier rules take them all"):
        sites([W8, W8])


def test_a_recipe_that_quantizes_nothing_is_an_error_with_the_reasons():
    with pytest.raises(ValueError, match=r"recipe 'custom' quantizes nothing: .*head.*: its rule leaves it in float"):
        sites([QuantRule()])
    with pytest.raises(ValueError, match="`rules` is empty"):
        QuantRecipe(())


def test_a_function_without_sites_is_an_error():
    with pytest.raises(ValueError, match=r"matches no site|the function has no site"):
        quantize(lambda p, x: p + x, recipe("w8a8")).sites(jnp.ones(3), jnp.ones(3))


@pytest.mark.parametrize("rules", [(4, 8), (8, 4)], ids=["embedding_4_head_8", "embedding_8_head_4"])
def test_a_table_that_two_sites_share_takes_the_most_bits_that_any_asks(rules):
    def tied(params, ids):
        return params["table"][ids] @ params["table"].T

    by_op = [
        QuantRule(op=op, weights=weight_spec(bits))
        for op, bits in zip(("embedding", "dot_general"), rules, strict=True)
    ]
    q = quantize(tied, QuantRecipe(tuple(by_op)))
    found = q.sites({"table": jnp.ones((8, 4))}, jnp.arange(3))
    assert [s.weight_bits for s in found] == [8, 8]
    assert sum(s.bytes for s in found) == 8 * 4 and sum(s.float_bytes for s in found) == 4 * 8 * 4


@pytest.mark.parametrize("bad", ["w8a8", None, {"w8a8": 1}], ids=repr)
def test_a_name_is_no_recipe(bad):
    with pytest.raises(ValueError, match=r"`recipe` must be a QuantRecipe, got .*qat.recipe\('w8a8'\)"):
        qat.quantize(model, bad)


def test_unknown_engines_and_functions_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"Unknown engine 'aqtt'.*Did you mean 'aqt'"):
        quantize(model, recipe("w8a8"), engine="aqtt")
    with pytest.raises(ValueError, match=r"`fn` must be a function of \(params, \*inputs\), got int"):
        quantize(3, recipe("w8a8"))  # pyright: ignore[reportArgumentType]
