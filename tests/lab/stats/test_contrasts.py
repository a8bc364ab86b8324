"""Contrasts as a study's file writes them, and the arms that they name."""

import pytest

from qat.lab import Contrast
from qat.lab.stats.contrasts import contrast_problems, find_arm, from_json, parse_contrasts, to_json

ARMS = {
    "a": {"arm": "float", "seed": "seed 0"},
    "b": {"arm": "qat w4a4", "rate": "slow", "seed": "seed 0"},
    "c": {"arm": "qat w4a4", "rate": "fast", "seed": "seed 0"},
    "d": {"arm": "ptq w4a4", "rate": "fast", "seed": "seed 0"},
}


def test_pairs_and_contrasts_are_read_alike():
    full = Contrast("c", "d", metric="f1", margin=0.5)
    assert parse_contrasts([("a", "b"), full]) == (Contrast("a", "b"), full)
    assert from_json({**to_json(full), "seen": 3}) == full


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("qat against ptq", "must be a list such as"),
        ([("a",)], "must hold pairs such as"),
        ([("a", "a")], "must name two arms"),
        ([("a", "b"), ("b", "a")], "b against a is asked more than once"),
        ([("a", "")], "`second` of a contrast must be an arm's labels"),
    ],
)
def test_what_is_no_contrast_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        parse_contrasts(given)


@pytest.mark.parametrize("name", ["margin", "difference", "sd"])
def test_numbers_of_a_contrast_are_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` of a against b must be positive, got 0"):
        from_json({"first": "a", "second": "b", name: 0})


def test_an_arm_is_named_by_as_many_labels_as_tell_it_apart():
    assert find_arm("float", ARMS) == "a"
    assert find_arm("qat w4a4, slow", ARMS) == find_arm("slow", ARMS) == "b"
    with pytest.raises(ValueError, match="'qat w4a4' means 2 arms"):
        find_arm("qat w4a4", ARMS)
    with pytest.raises(ValueError, match=r"no arm has the labels 'flaot'\. Did you mean 'float'"):
        find_arm("flaot", ARMS)


def test_every_mistake_is_told():
    lines = contrast_problems([Contrast("flaot", "fast"), Contrast("slow", "qat w4a4, slow")], ARMS)
    assert len(lines) == 3 and all(line.startswith("`CONTRASTS`: ") for line in lines)
    assert "names one and the same arm twice" in lines[-1]
