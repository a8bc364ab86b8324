# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false, reportCallIssue=false
"""Recipes as data: written and read back equal, mistakes told with their paths, differences field by field."""

import json
from dataclasses import replace

import pytest

from qat.recipes.data import recipe_differences, recipe_from_data, recipe_to_data
from qat.recipes.layer_bits import raise_bits, with_layer_bits
from qat.recipes.presets import label, recipe
from qat.recipes.recipe import QuantRecipe, QuantRule, activation_spec, weight_spec
from qat.registry import parse_call

PRESETS = [
    "w8a8",
    "w4",
    "w2a4",
    "w4a8_dynamic",
    "w4a4(quantizer='lsq', edges='float', products=False)",
    "w4a8(edges='same', observer='percentile(99.9)')",
    "w4a4(observer='mse')",
    "w8a4(parts=True, observer='minmax')",
    "w4(group_size=3)",
    "w4a4(bits={'head': 2, 'stem': (6, 5)})",
    "w8(bits={'head': (4, 4)})",
]
OWN = QuantRecipe(
    (QuantRule("^a", "conv", weight_spec(3), products=False), QuantRule(weights=weight_spec(4))), name="own rules"
)
BITS = {"head": 3, "stem": (8, 7), "^body$": 8}


@pytest.mark.parametrize("original", [*map(recipe, PRESETS), OWN], ids=[*PRESETS, "own"])
def test_a_recipe_reads_back_equal_from_json(original):
    found = recipe_from_data(json.loads(json.dumps(recipe_to_data(original))))
    assert found == original
    assert (hash(found), label(found)) == (hash(original), label(original))


def test_fields_with_a_default_may_be_left_out():
    assert recipe_from_data({"rules": [{"weights": {"bits": 4}}]}) == QuantRecipe(
        (QuantRule(weights=replace(weight_spec(4), per="tensor")),)
    )


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"rulez": []}, ["`rulez`: unknown field. Did you mean 'rules'?"]),
        ({"rules": 3, "name": 4}, ["`rules`: must be a list, got 3.", "`name`: must be of type str, got 4."]),
        (
            {"rules": [{"weights": {"bitz": 4, "bits": "8"}}]},
            [
                "`rules.0.weights.bitz`: unknown field. Did you mean 'bits'?",
                "`rules.0.weights.bits`: must be of type int, got '8'.",
            ],
        ),
        ({"rules": [{"weights": {"bits": True}}]}, ["`rules.0.weights.bits`: must be of type int, got True."]),
        ({"rules": [{"weights": {"per": "chanel"}}]}, ["`rules.0.weights.per`: must be one of tensor, channel"]),
        ({"rules": [{"weights": {"bits": 1}}]}, ["`rules.0.weights`: `bits` must be an integer in [2, 8], got 1."]),
        ({"first": {"op": "cov"}}, ["`first`: `op` must be one of dot_general, conv, embedding, add, got 'cov'."]),
        ({"weights": [["head"]]}, ["`weights.0`: must be a pair of a pattern and its spec, got ['head']."]),
    ],
)
def test_every_mistake_is_told_with_its_path(changes, lines):
    with pytest.raises(ValueError, match="`") as caught:
        recipe_from_data({**recipe_to_data(recipe("w8a8")), **changes})
    found = str(caught.value).splitlines()
    assert len(found) == len(lines)
    assert all(one.startswith(line) for one, line in zip(sorted(found), sorted(lines), strict=True))


@pytest.mark.parametrize(("data", "said"), [({}, "`rules`: missing"), ([], "`recipe`: must be a dict with fields of")])
def test_what_is_no_recipe_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        recipe_from_data(data)


def test_differences_are_told_field_by_field():
    after = with_layer_bits(recipe("w8a4"), {"head": 4})
    after = replace(after, rules=(replace(after.rules[0], activations=activation_spec(6, observer="mse")),))
    found = recipe_differences(recipe("w8a4"), after)
    assert found[:2] == ["rules.0.activations.bits: 4 -> 6", "weights.0.0: (none) -> 'head'"]
    assert recipe_differences(after, replace(after, name="other")) == []


@pytest.mark.parametrize("text", PRESETS)
def test_bits_of_layers_are_those_that_a_presets_name_can_give(text):
    preset = recipe(text)
    before = {p: _pair(preset, p) for p, _ in preset.weights if p not in BITS}
    named = recipe(text.partition("(")[0], **_options(text) | {"bits": {**BITS, **before}})
    assert not recipe_differences(with_layer_bits(preset, BITS), named)


@pytest.mark.parametrize("text", PRESETS)
def test_raised_layers_have_8_bits_as_a_presets_name_can_give(text):
    preset = recipe(text)
    bits = 8 if preset.rules[0].activations is None else (8, 8)
    before = {p: _pair(preset, p) for p, _ in preset.weights}
    named = recipe(text.partition("(")[0], **_options(text) | {"bits": {r"^a/0\.x$": bits, "^b$": bits, **before}})
    raised = raise_bits(preset, ["a/0.x", "b"])
    assert not recipe_differences(raised, named)
    assert raise_bits(raised, ["b"]).weights[0] == raised.weights[1]


def test_a_raised_layer_keeps_what_its_own_rule_says():
    raised = raise_bits(OWN, ["a/x", "b"])
    assert raised.weights == (("^a/x$", weight_spec(8)), ("^b$", weight_spec(8)))
    grouped = QuantRecipe((QuantRule("^a", weights=weight_spec(4, per="group", group_size=2)), *OWN.rules[1:]))
    assert dict(raise_bits(grouped, ["a"]).weights)["^a$"].group_size == 2


def test_bits_of_layers_need_a_rule_for_weights():
    with pytest.raises(ValueError, match="need a rule that quantizes weights, but 'custom' has none"):
        with_layer_bits(QuantRecipe((QuantRule(activations=activation_spec(8)),)), {"a": 4})


def _options(text):
    return {name: value for name, value in parse_call(text)[2].items() if name != "bits"}


def _pair(preset, pattern):
    activations = dict(preset.activations)
    weights = dict(preset.weights)[pattern].bits
    return (weights, activations[pattern].bits) if pattern in activations else weights
