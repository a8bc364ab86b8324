"""Drawn boards: the same for one seed, defects of six kinds where their boxes are."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from qat import data
from qat.data.boards import board
from qat.data.boards.defects import DEFECTS
from qat.data.boards.draw import APART, MARGIN, add_defects
from qat.data.boards.pen import MIDDLE, PATCH

OPEN, SHORT, MOUSEBITE, SPUR, COPPER, PIN_HOLE = range(6)


@pytest.fixture(scope="module")
def drawn():
    """Boards of 320 pixels with defects, their templates, and the defects."""
    return [board(320, np.random.default_rng((5, index))) for index in range(40)]


@pytest.fixture(scope="module")
def stripes():
    """Copper with room for every kind of defect: traces, and ground."""
    copper = np.zeros((320, 320), bool)
    for y in range(20, 160, 28):
        copper[y : y + 12] = True
    copper[190:260] = True
    return copper


def parts(mask) -> Any:
    labels: Any = np.zeros(mask.shape, np.int32)
    return ndimage.label(mask, output=labels)


@pytest.mark.parametrize("seed", range(30))
def test_a_box_is_the_smallest_around_what_its_defect_changes_and_a_margin(stripes, seed):
    defective, objects = add_defects(stripes, 1, np.random.default_rng(seed))
    y, x = np.nonzero(defective ^ stripes)
    tight = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    np.testing.assert_array_equal(objects.boxes, [np.clip(tight + np.array([-1, -1, 1, 1]) * MARGIN, 0, 320)])


def test_all_that_differs_is_in_boxes_and_defects_keep_apart(stripes):
    for seed in range(10):
        defective, objects = add_defects(stripes, 8, np.random.default_rng(seed))
        changed = defective ^ stripes
        for x1, y1, x2, y2 in objects.boxes.astype(int):
            changed[y1:y2, x1:x2] = False
        assert not changed.any()
        assert len(objects.labels) >= 6
        low, high = objects.boxes[:, :2] + MARGIN, objects.boxes[:, 2:] - MARGIN
        between = np.maximum(low[:, None] - high, low - high[:, None]).max(-1)
        inside = (low > MARGIN).all(1) & (high < 320 - MARGIN).all(1)  # those whose margin is not cut off
        np.fill_diagonal(between, APART)
        assert between[inside][:, inside].min(initial=APART) >= APART


@pytest.mark.parametrize("kind", range(6), ids=["open", "short", "mousebite", "spur", "copper", "pin-hole"])
def test_a_defect_does_to_the_copper_what_its_name_says(stripes, kind):
    rng, done = np.random.default_rng(kind), 0
    for _ in range(600):
        y, x = rng.integers(0, 320 - PATCH, 2)
        patch = stripes[y : y + PATCH, x : x + PATCH]
        if kind in (OPEN, SHORT, MOUSEBITE, SPUR) and patch[MIDDLE - 1, MIDDLE] == patch[MIDDLE, MIDDLE]:
            continue
        before = patch.copy()
        after = DEFECTS[kind](patch, rng)
        np.testing.assert_array_equal(patch, before)
        if after is None:
            continue
        done += 1
        if kind in (SHORT, SPUR, COPPER):
            assert (after >= patch).all()
        else:
            assert (after <= patch).all()
        if kind == OPEN:
            assert parts(after) > parts(patch)
        elif kind == SHORT:
            assert parts(after) < parts(patch)
        elif kind == COPPER:
            assert parts(after) > parts(patch) and parts(after & ~patch) == parts(after) - parts(patch)
        elif kind == PIN_HOLE:
            assert parts(~after) > parts(~patch) and parts(~after & patch) == parts(~after) - parts(~patch)
        elif kind == SPUR:
            assert parts(after) == parts(patch)
    assert done > 10


def test_boards_have_the_sizes_numbers_and_kinds_of_defects_that_are_said(drawn):
    labels = np.concatenate([objects.labels for _, _, objects in drawn])
    assert set(labels) == set(range(6))
    sides = np.concatenate([objects.boxes[:, 2:] - objects.boxes[:, :2] for _, _, objects in drawn])
    assert np.quantile(sides, 0.05) >= 15 and np.quantile(sides, 0.95) <= 70
    counts = [len(board(640, np.random.default_rng((6, index)))[2].labels) for index in range(6)]
    assert max(counts) <= 10 and np.mean(counts) >= 3


def test_without_its_defects_a_board_is_its_template_but_for_its_edges(drawn):
    for image, template, objects in drawn:
        differs = image ^ template
        for x1, y1, x2, y2 in objects.boxes.astype(int):
            differs[y1:y2, x1:x2] = False
        near: Any = [ndimage.binary_dilation(mask, iterations=4) for mask in (template, ~template)]
        edges = near[0] & near[1]
        assert (differs & ~edges)[4:-4, 4:-4].sum() <= 20  # of 100,000 pixels: gaps that one of the scans closed


def test_a_board_depends_on_seed_and_index_alone():
    a, b, c = (data.build(f"boards(4, seed={seed}, held_out=0.5)") for seed in (0, 0, 1))
    for split in ("train", "validation", "test"):
        for name, value in a.splits[split][1].items():
            np.testing.assert_array_equal(value, b.splits[split][1][name])
        assert not np.array_equal(a.splits[split][1]["image"], c.splits[split][1]["image"])
    more = data.build("boards(6)").splits["train"]
    np.testing.assert_array_equal(more[3]["image"], a.splits["train"][3]["image"])
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert a.fingerprint != data.build("boards(6)").fingerprint


def test_no_image_is_in_two_splits():
    splits = data.build("boards(5, held_out=1)").splits
    images = [split[i]["image"] for split in splits.values() for i in range(len(split))]
    assert [len(split) for split in splits.values()] == [5, 5, 5]
    assert len({image.tobytes() for image in images}) == 15


def test_examples_are_what_the_metadata_says():
    boards = data.build("boards(4, size=160)")
    example = boards.splits["train"][0]
    assert {name: (value.shape, value.dtype.name) for name, value in example.items()} == {
        "image": ((160, 160, 2), "uint8"),
        "scale": ((), "float32"),
        "boxes": ((2, 4), "float32"),
        "labels": ((2,), "int32"),
    }
    assert example["image"].shape == boards.input_shape
    assert set(np.unique(example["image"])) <= {0, 1}
    assert (boards.task[:9], boards.classes, boards.class_names[2]) == ("detection", 6, "mousebite")
    alone = data.build("boards(4, size=160, template=False)").splits["train"][0]
    np.testing.assert_array_equal(alone["image"], example["image"][..., :1])


def test_training_batches_are_augmented_to_one_shape():
    boards = data.build("boards(6, size=160, crop=64, mosaic=0.5)")
    batches = data.Batches(boards.splits["train"], 4, seed=0, augment=boards.augment)
    assert {batches[step]["image"].shape for step in range(4)} == {(4, 64, 64, 2)}
    assert {batches[step]["boxes"].shape for step in range(4)} == {(4, 2, 4)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("images=0", "`images` must be at least 1"),
        ("held_out=0", r"`held_out` in \(0, 1\]"),
        ("size=100", "`size` must be a multiple of 32 pixels"),
        ("crop=640", "`crop` must be at most the images' sides, 320 x 320"),
    ],
)
def test_arguments_without_meaning_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.build(f"boards({arguments})")
