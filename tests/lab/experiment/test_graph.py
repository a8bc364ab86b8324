"""Keys of stages: shared exactly where all that they depend on is the same."""

import itertools

import pytest
from studies import BASE

from qat.lab.experiment import stage_of
from qat.lab.experiment.code import Code
from qat.lab.experiment.config import override

ARMS = {
    "float": {},
    "control": {},
    "ptq": {"recipe": "w8a8"},
    "qat": {"recipe": "w8a8"},
}


def stages(arm="qat", fingerprint="data", **changes):
    """Stages of a trial by kind."""
    config = override(BASE, {"arm": arm, **ARMS[arm], **changes})
    return {stage.kind: stage for stage in stage_of(config, fingerprint).walk()}


def keys(*args, **kwargs):
    return {kind: stage.key for kind, stage in stages(*args, **kwargs).items()}


@pytest.mark.parametrize(
    ("arm", "kinds"),
    [
        ("float", ["float", "trial"]),
        ("control", ["float", "control", "trial"]),
        ("ptq", ["float", "calibration", "trial"]),
        ("qat", ["float", "calibration", "qat", "trial"]),
    ],
)
def test_an_arm_needs_its_stages_in_order(arm, kinds):
    assert list(stages(arm)) == kinds


def test_all_arms_share_the_float_model_and_quantized_ones_the_calibration():
    found = {arm: keys(arm) for arm in ARMS}
    assert len({k["float"] for k in found.values()}) == 1
    assert found["ptq"]["calibration"] == found["qat"]["calibration"]
    assert len({k["trial"] for k in found.values()}) == len(found)


CHANGES = {
    "train.steps": (11, {"float", "calibration", "qat", "trial"}),
    "seed": (1, {"float", "calibration", "qat", "trial"}),
    "model": ("cnn(width=8)", {"float", "calibration", "qat", "trial"}),
    "recipe": ("w4a8", {"calibration", "qat", "trial"}),
    "sensitive_share": (0.2, {"calibration", "qat", "trial"}),
    "allocation": ("size(bits=6)", {"calibration", "qat", "trial"}),
    "calibration_batches": (3, {"calibration", "qat", "trial"}),
    "distillation": (0.5, {"qat", "trial"}),
    "r_drop": (0.5, {"float", "calibration", "qat", "trial"}),
    "more_splits": (("validation",), {"trial"}),
    "finetune.steps": (6, {"qat", "trial"}),
    "evaluation_batch_size": (9, {"trial"}),
    "analysis_batches": (0, {"trial"}),
    "name": ("other", set()),
}


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_makes_new_what_depends_on_it_and_nothing_else(path):
    value, expected = CHANGES[path]
    before, after = keys(), keys(**{path: value})
    assert {kind for kind in before if before[kind] != after[kind]} == expected


@pytest.mark.parametrize("arm", ["control", "ptq", "qat"])
def test_seeds_of_one_float_seed_share_the_float_model_alone(arm):
    found = [keys(arm, float_seed=5, seed=seed) for seed in (0, 1)]
    assert {kind for kind in found[0] if found[0][kind] == found[1][kind]} == {"float"}
    assert found[0]["float"] == keys("float", seed=5)["float"] == keys("float", float_seed=5, seed=5)["float"]


def test_another_checkpoint_makes_everything_new_wherever_it_lies(tmp_path):
    def start(name, weights):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        return keys(init=f"hf:{tmp_path / name}")

    first, same, other, none = start("a", b"1"), start("b", b"1"), start("c", b"2"), keys()
    assert first == same
    assert not set(first.values()) & (set(other.values()) | set(none.values()))


def test_other_data_make_everything_new():
    assert not set(keys(fingerprint="a").values()) & set(keys(fingerprint="b").values())


def test_other_code_makes_everything_new_that_runs_it(monkeypatch):
    before = keys()
    monkeypatch.setattr("qat.lab.experiment.stages.code_of", lambda *parts: Code({"edited.py": "other"}, {}))
    after = keys()
    assert all(before[kind] != after[kind] for kind in before)


def test_kinds_never_share_a_key():
    found = itertools.chain(*(keys(arm).items() for arm in ARMS))
    by_key = {}
    for kind, key in found:
        assert by_key.setdefault(key, kind) == kind
