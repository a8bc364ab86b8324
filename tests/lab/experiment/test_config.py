# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false, reportCallIssue=false
"""Configs: every mistake at once, with its path and a remedy."""

import json

import pytest
from pydantic import ValidationError

from qat.lab.experiment.config import ExperimentConfig, digest, explain, override, parse, parse_assignment
from qat.lab.experiment.members import is_known
from qat.lab.experiment.stages import stage_of
from qat.recipes.data import recipe_differences
from qat.recipes.presets import recipe
from qat.train import TrainConfig

BASE = ExperimentConfig(name="base", model="cnn(width=8)", data="digits", train=TrainConfig(steps=10))


def test_override_changes_nested_fields_and_leaves_the_original_alone():
    changed = override(BASE, {"train.steps": 20, "seed": 3})
    assert (changed.train.steps, changed.seed) == (20, 3)
    assert (BASE.train.steps, BASE.seed) == (10, 0)


def test_override_can_add_a_stage_that_was_left_out():
    changed = override(BASE, {"arm": "control", "finetune.steps": 5})
    assert changed.finetune is not None
    assert changed.finetune.steps == 5


def test_all_mistakes_come_at_once_each_with_its_path():
    with pytest.raises(ValueError, match="unknown field") as caught:
        override(BASE, {"train.stepz": 3, "trian": 2, "model": "cnnn", "data": "digitz", "calibration_batches": 0})
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    for path, hint in [
        ("`train.stepz`: unknown field.", "Did you mean 'steps'?"),
        ("`trian`: unknown field.", "Did you mean 'train'?"),
        ("`model`: ", "Did you mean 'cnn'?"),
        ("`data`: ", "Did you mean 'digits'?"),
        ("`calibration_batches`: ", "greater than or equal to 1, got 0"),
    ]:
        assert any(line.startswith(path) and hint in line for line in lines), (path, lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": "ptq"}, "`recipe` must be given for arm 'ptq'"),
        ({"recipe": "w8a8"}, "`recipe` must be left out for arm 'float'"),
        ({"arm": "qat", "recipe": "w8a8"}, "`finetune` must be given for arm 'qat'"),
        ({"arm": "ptq", "recipe": "w9a9"}, "Unknown recipe 'w9a9'"),
        ({"arm": "quat"}, "'float', 'control', 'ptq' or 'qat', got 'quat'"),
        ({"train.seed": 3}, "Set the experiment's `seed`"),
        ({"train.steps.more": 3}, "train.steps is a value and has no fields"),
        ({"train.warmup_steps": 30}, "`warmup_steps` must be less than `steps`"),
        ({"name": "../up"}, "`name`"),
        ({"seed": -1}, "`seed`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_explained(changes, message):
    with pytest.raises(ValueError, match="`") as caught:
        override(BASE, changes)
    assert message in str(caught.value)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match="`train`: missing"):
        parse(ExperimentConfig, {"name": "a", "model": "cnn", "data": "digits"})


def test_an_unknown_field_of_a_model_made_in_python_gets_a_hint():
    with pytest.raises(ValidationError) as caught:
        TrainConfig(steps=3, learning_rat=0.1)  # pyright: ignore[reportCallIssue]
    assert explain(caught.value) == "`learning_rat`: unknown field. Did you mean 'learning_rate'?"


def test_configs_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        BASE.seed = 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.steps=300", ("train.steps", 300)),
        ("train.learning_rate=3e-4", ("train.learning_rate", 3e-4)),
        ("recipe=w8a8", ("recipe", "w8a8")),
        ("recipe=w4a4(quantizer='lsq')", ("recipe", "w4a4(quantizer='lsq')")),
        ("recipe=None", ("recipe", None)),
        ("train.optimizer=sgd(momentum=0.8)", ("train.optimizer", "sgd(momentum=0.8)")),
    ],
)
def test_an_assignment_is_a_literal_or_else_a_string(text, expected):
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["train.steps", "=3", ""])
def test_an_assignment_without_path_or_value_is_refused(text):
    with pytest.raises(ValueError, match="path=value"):
        parse_assignment(text)


def test_a_digest_changes_with_every_field_and_with_nothing_else():
    again = override(BASE, {})
    assert digest(again) == digest(BASE)
    others = [override(BASE, change) for change in ({"seed": 1}, {"train.steps": 11}, {"model": "cnn(width=9)"})]
    assert len({digest(BASE), *map(digest, others)}) == 4


RULES = recipe("w4a4(quantizer='lsq')")
PTQ = override(BASE, {"arm": "ptq", "recipe": "w4a4"})


def test_a_recipe_of_rules_is_stored_as_data_and_read_back_equal():
    config = override(PTQ, {"recipe": RULES})
    stored = json.loads(config.model_dump_json())
    assert stored["recipe"]["rules"][0]["weights"]["bits"] == 4
    read = parse(ExperimentConfig, stored)
    assert (read, read.rules, digest(read)) == (config, RULES, digest(config))
    assert json.loads(PTQ.model_dump_json())["recipe"] == "w4a4"


def test_a_path_into_a_recipe_changes_one_field_of_its_rules():
    config = override(PTQ, {"recipe.rules.0.weights.bits": 6, "recipe.first.weights.observer": "mse"})
    assert recipe_differences(recipe("w4a4"), config.rules) == [
        "rules.0.weights.bits: 4 -> 6",
        "first.weights.observer: 'minmax' -> 'mse'",
    ]
    again = override(config, {"recipe.rules.0.weights.per": "group", "recipe.rules.0.weights.group_size": 3})
    assert (again.rules.rules[0].weights.bits, again.rules.rules[0].weights.group_size) == (6, 3)


def test_a_whole_is_set_before_its_parts_in_whatever_order_they_come():
    config = override(BASE, {"recipe.rules.0.weights.bits": 3, "recipe": "w8a8", "arm": "ptq"})
    assert recipe_differences(recipe("w8a8"), config.rules) == ["rules.0.weights.bits: 8 -> 3"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe.rules.3.weights.bits": 4}, "`recipe.rules.3.weights.bits`: recipe.rules has parts 0 to 0, got '3'."),
        ({"recipe.rules.0.weights.bitz": 4}, "`recipe.rules.0.weights.bitz`: unknown field. Did you mean 'bits'?"),
        ({"recipe.rules.0.weights.bits": 9}, "`recipe.rules.0.weights`: `bits` must be an integer in [2, 8], got 9."),
        ({"recipe.rules.0.weights.bits.x": 9}, "recipe.rules.0.weights.bits is a value and has no fields."),
        ({"recipe.weights.0": 9}, "`recipe.weights.0`: recipe.weights is empty, got '0'."),
        ({"recipe": {"rulez": []}}, "`recipe.rulez`: unknown field. Did you mean 'rules'?"),
        ({"recipe": 8}, "`recipe`: must be a preset's text, such as 'w8a8', a QuantRecipe or its data"),
        ({"recipe": None, "recipe.rules": []}, "`recipe.rules`: there is no recipe to change."),
        ({"recipe": "w9", "recipe.rules": []}, "`recipe`: Unknown recipe 'w9'."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_in_a_recipe_is_told_with_its_path(changes, said):
    with pytest.raises(ValueError, match="`") as caught:
        override(PTQ, changes)
    assert said in str(caught.value)


def test_the_name_of_a_recipe_of_rules_changes_with_its_rules_and_sets_the_quantizer_apart():
    names = [override(PTQ, {"recipe": rules}).recipe_name for rules in (RULES, recipe("w4a4"), recipe("w4a8"))]
    plain, trained = names[1], names[0]
    assert len(set(names)) == 3
    assert trained == f"{plain[:-1]}, quantizer='lsq')"
    assert PTQ.recipe_name == "w4a4"
    mixed = {f"recipe.rules.0.{tensors}.quantizer": "lsq" for tensors in ("weights", "activations")}
    assert len({override(PTQ, {path: value}).recipe_name for path, value in mixed.items()}) == 2


def test_what_a_recipe_of_rules_names_is_known_or_not():
    data = json.loads(override(PTQ, {"recipe": RULES}).model_dump_json())
    assert is_known(data)
    data["recipe"]["last"]["weights"]["observer"] = "nobodys_observer(3)"
    assert not is_known(data)


def test_the_key_of_a_calibration_changes_with_any_field_of_a_recipe_of_rules():
    bits = [override(PTQ, {"recipe.rules.0.weights.bits": b}) for b in (8, 6, 4)]
    keys = {stage_of(config, "data").needs[0].key for config in bits}
    assert len(keys) == 3
    assert {stage_of(config, "data").needs[0].needs[0].key for config in bits} == {
        stage_of(PTQ, "data").needs[0].needs[0].key
    }


def test_the_earlier_name_of_r_drop_is_still_read():
    values = {"name": "a", "model": "cnn", "data": "digits", "train": {"steps": 10}}
    config = parse(ExperimentConfig, {**values, "consistency": 0.5})
    assert config == parse(ExperimentConfig, {**values, "r_drop": 0.5})
    assert "consistency" not in config.model_dump()
    assert override(config, {"r_drop": None}).r_drop is None
    with pytest.raises(ValueError, match=r"`consistency` is the earlier name of `r_drop`. Give `r_drop` alone"):
        parse(ExperimentConfig, {**values, "consistency": 0.5, "r_drop": 1.0})
