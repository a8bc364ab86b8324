"""The splits of DeepPCB: validation by group, and boards that are published with a flaw."""

from pathlib import Path

import numpy as np
import pytest
from deeppcb_folder import GROUPS, TEST, TRAINVAL, build, rename
from PIL import Image, ImageDraw

from qat.data.deeppcb.files import FLAWED, published
from qat.data.deeppcb.split import group_of, held_out_groups, split
from qat.data.deeppcb.tfds_builder import prepare

REAL = Path(__file__).parents[4] / "shared" / "data" / "DeepPCB"
PAINTED = next(name for name, flaw in FLAWED.items() if flaw.image == "test")
BLANK = next(name for name, flaw in FLAWED.items() if flaw.image == "template")


def lengths(dataset):
    return {name: len(part) for name, part in dataset.splits.items()}


def paint(path):
    """What someone does who looks at the annotations with a viewer that saves the file."""
    image = Image.open(path).convert("RGB")
    ImageDraw.Draw(image).rectangle((100, 100, 400, 400), outline=(255, 0, 0), width=8)
    image.save(path, quality=95)


def test_validation_is_the_groups_with_the_fewest_boards_in_test_until_there_are_enough():
    boards, tested = {"a": 10, "b": 3, "c": 5, "d": 4}, {"a": 1, "b": 9, "d": 1, "e": 50}
    assert held_out_groups(boards, tested, 5) == ["c"]
    assert held_out_groups(boards, tested, 6) == ["c", "d"]
    assert held_out_groups(boards, tested, 10) == ["c", "d", "a"]
    with pytest.raises(ValueError, match="must leave a group of boards to train on, but 20 of 22"):
        held_out_groups(boards, tested, 20)


def test_no_group_is_in_training_and_in_validation(original):
    lists = published(original, True, "refuse")
    parts = split(lists, True, "drop", 0.1, None)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "train": [index for index in range(TRAINVAL) if GROUPS[index] == 1],
        "validation": [index for index in range(TRAINVAL) if GROUPS[index] == 2],  # has no board in test
        "test": list(range(TEST)),
    }


def test_a_test_image_with_painted_annotations_is_left_out_and_named(folder, capfd):
    image, _ = rename(folder, TRAINVAL, PAINTED)
    assert lengths(build(folder))["test"] == TEST, "an image that is as it should be is used"
    assert capfd.readouterr().err == ""
    paint(image)
    assert lengths(build(folder)) == {"train": 4, "validation": 2, "test": TEST - 1}
    said = capfd.readouterr().err
    assert "DeepPCB without 1 published board (flawed='keep' keeps what is flawed)" in said
    assert f"{PAINTED} of test: its annotations" in said
    assert lengths(build(folder, template=False))["test"] == TEST - 1
    assert lengths(build(folder, flawed="keep"))["test"] == TEST
    assert build(folder, flawed="keep").fingerprint != build(folder).fingerprint


def test_a_board_with_a_blank_template_is_left_out_where_templates_are_used(folder, tmp_path, capfd):
    _, template = rename(folder, 0, BLANK)
    Image.new("L", (640, 640), 255).save(template)
    whole = build(folder, held_out=0.4)
    said = capfd.readouterr().err
    assert f"{BLANK} of trainval: its template is blank" in said
    alone = build(folder, template=False, held_out=0.4)
    assert capfd.readouterr().err == ""
    assert sum(lengths(alone).values()) == TRAINVAL + TEST == sum(lengths(whole).values()) + 1
    prepare(folder, tmp_path / "prepared")
    for options in ({}, {"template": False}, {"flawed": "keep"}):
        expected = build(folder, held_out=0.4, **options)
        found = build(tmp_path / "prepared", held_out=0.4, **options)
        assert found.fingerprint == expected.fingerprint and lengths(found) == lengths(expected)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published images of DeepPCB are not beside the project")
def test_the_published_set_is_split_by_group_without_its_four_flawed_boards(capfd):
    lists = published(REAL, True, "refuse")
    assert {name: dict(listing.flaws) for name, listing in lists.items()} == {
        "trainval": {name: "template" for name, flaw in FLAWED.items() if flaw.image == "template"},
        "test": {PAINTED: "test"},
    }
    parts = split(lists, True, "drop", 0.1, None)
    said = capfd.readouterr().err
    assert all(name in said for name in FLAWED)
    assert {name: len(part) for name, part in parts.items()} == {"train": 897, "validation": 100, "test": 499}
    groups = {
        name: {group_of(lists["test" if name == "test" else "trainval"].names[i]) for i in part}
        for name, part in parts.items()
    }
    assert groups["validation"] == {"group77000"} and not groups["validation"] & groups["train"]
    assert sum(group_of(name) == "group77000" for name in lists["test"].names) == 7
    every = split(lists, True, "keep", 0.1, None)
    assert {name: len(part) for name, part in every.items()} == {"train": 900, "validation": 100, "test": 500}
    assert np.intersect1d(parts["train"], parts["validation"]).size == 0
