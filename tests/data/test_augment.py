"""Augmentation: boxes go where their pixels go."""

from typing import Any

import numpy as np
import pytest

from qat.data.images.augment import Augmentation, check_fits

SIDE = 96
ALL_THAT_IS_SEEN: Any = {"visible": 1e-9, "sliver": 0.0}


def filled(rng, count=8, rows=3, channels=1, side=SIDE):
    """Images that are 0 but for one box each, filled with the image's own number from 1 on; its label is that less 1.

    Of several rows the box is in the first.
    """
    low = rng.integers(0, side - 12, (count, 2))
    high = np.minimum(low + rng.integers(6, 60, (count, 2)), side)
    boxes, labels = np.zeros((count, rows, 4), np.float32), np.full((count, rows), -1, np.int32)
    boxes[:, 0], labels[:, 0] = np.concatenate([low, high], 1), np.arange(count)
    images = np.zeros((count, side, side, channels), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes[:, 0].astype(int)):
        images[i, y1:y2, x1:x2] = i + 1
    return {"image": images, "boxes": boxes, "labels": labels, "scale": np.ones(count, np.float32)}


def bounds(mask):
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize("symmetry", ["square", "mirror", "none"])
@pytest.mark.parametrize("crop", [None, 32, 64])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_box_holds_after_it_what_it_held_before(symmetry, crop, channels):
    augment = Augmentation(crop, symmetry, **ALL_THAT_IS_SEEN)
    for seed in range(10):
        batch = augment(filled(np.random.default_rng(seed), channels=channels), np.random.default_rng((1, seed)))
        side = crop or SIDE
        assert batch["image"].shape == (8, side, side, channels)
        for i, image in enumerate(batch["image"]):
            assert (image == image[..., :1]).all()
            if image.any():
                assert batch["labels"][i].tolist() == [i, -1, -1]
                assert batch["boxes"][i, 0].tolist() == bounds(image[..., 0])
            else:
                assert (batch["labels"][i] == -1).all()
            assert not batch["boxes"][i][batch["labels"][i] == -1].any()


def test_of_objects_at_the_edge_those_stay_of_which_enough_is_seen():
    whole, part = Augmentation(32, **ALL_THAT_IS_SEEN), Augmentation(32, visible=0.4, sliver=5)
    dropped = kept = 0
    for seed in range(40):
        before = filled(np.random.default_rng(seed))
        area = np.prod(before["boxes"][:, 0, 2:] - before["boxes"][:, 0, :2], -1)
        seen, chosen = (augment(before, np.random.default_rng((1, seed))) for augment in (whole, part))
        np.testing.assert_array_equal(seen["image"], chosen["image"])
        sides = seen["boxes"][:, 0, 2:] - seen["boxes"][:, 0, :2]
        expected = (sides.prod(-1) >= 0.4 * area) & (sides.min(-1) >= 5)
        np.testing.assert_array_equal(chosen["labels"][:, 0] >= 0, expected)
        np.testing.assert_array_equal(chosen["boxes"][expected], seen["boxes"][expected])
        dropped, kept = dropped + (~expected & (seen["labels"][:, 0] >= 0)).sum(), kept + expected.sum()
    assert dropped > 20 and kept > 20


def test_an_object_smaller_than_a_sliver_stays_where_all_of_it_is_seen():
    batch = filled(np.random.default_rng(0))
    batch["boxes"][:, 0] = [40, 40, 42, 41]
    assert (Augmentation(None, sliver=4)(batch, np.random.default_rng(0))["labels"][:, 0] >= 0).all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_mosaic_keeps_every_box_on_its_pixels(channels):
    augment, joined = Augmentation(64, mosaic=1.0, **ALL_THAT_IS_SEEN), 0
    for seed in range(10):
        before = filled(np.random.default_rng(seed), rows=4, channels=channels)
        batch = augment(before, np.random.default_rng((1, seed)))
        assert batch["boxes"].shape == before["boxes"].shape
        for image, boxes, labels in zip(batch["image"][..., 0], batch["boxes"], batch["labels"], strict=True):
            rest = image.copy()
            for (x1, y1, x2, y2), label in zip(boxes[labels >= 0].astype(int), labels[labels >= 0], strict=True):
                assert (image[y1:y2, x1:x2] == label + 1).all()
                rest[y1:y2, x1:x2] = 0
            assert not rest.any(), "what is seen of an object is in its box"
            joined += len(np.unique(image)) > 2
    assert joined > 10


def test_a_mosaic_with_more_objects_than_rows_stays_a_crop():
    rng = np.random.default_rng(0)
    batch = filled(rng, rows=1)
    for seed in range(20):
        after = Augmentation(64, mosaic=1.0, **ALL_THAT_IS_SEEN)(batch, np.random.default_rng(seed))
        for image, labels in zip(after["image"], after["labels"], strict=True):
            assert len(np.unique(image[image > 0])) == (labels >= 0).sum()


def test_each_of_the_eight_views_comes_and_left_and_right_alone_are_exchanged_by_the_mirror():
    image = np.arange(32 * 32, dtype=np.uint16).reshape(1, 32, 32, 1)
    batch = {
        "image": np.repeat(image, 200, 0),
        "boxes": np.zeros((200, 1, 4), np.float32),
        "labels": np.full((200, 1), -1, np.int32),
    }
    turned = {tuple(np.rot90(view, k)[0, :2, 0]) for k in range(4) for view in (image[0], image[0, :, ::-1])}
    seen = {
        symmetry: {
            tuple(view[0, :2, 0]) for view in Augmentation(None, symmetry)(batch, np.random.default_rng(0))["image"]
        }
        for symmetry in ("square", "mirror", "none")
    }
    assert seen == {"square": turned, "mirror": {(0, 1), (31, 30)}, "none": {(0, 1)}}


def test_it_depends_on_the_generator_alone_and_leaves_its_input_as_it_is():
    batch, untouched = (filled(np.random.default_rng(0), channels=2) for _ in range(2))
    augment = Augmentation(64, mosaic=0.5)
    a, b, c = (augment(batch, np.random.default_rng(seed)) for seed in (7, 7, 8))
    for name in batch:
        np.testing.assert_array_equal(a[name], b[name])
        np.testing.assert_array_equal(batch[name], untouched[name])
    assert not np.array_equal(a["image"], c["image"])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`crop` must be at most the images' sides, 64 x 96 pixels, got 96"):
        check_fits(Augmentation(96), (64, 96, 1))
    with pytest.raises(ValueError, match="`crop` must be a multiple of 32 pixels, got 40"):
        check_fits(Augmentation(40), (64, 64, 1))
    with pytest.raises(ValueError, match=r"`symmetry` 'square' needs square images, got 64 x 96"):
        check_fits(Augmentation(None), (64, 96, 1))
    with pytest.raises(ValueError, match="`symmetry` must be 'square', 'mirror' or 'none', got 'round'"):
        Augmentation(symmetry="round")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`mosaic` must be in \[0, 1\]"):
        Augmentation(mosaic=2)
    with pytest.raises(ValueError, match="`crop` must be at least 4 pixels"):
        Augmentation(0)


def test_images_that_are_not_square_are_mirrored_and_cropped():
    batch = filled(np.random.default_rng(0))
    batch = {**batch, "image": batch["image"][:, :64], "boxes": np.minimum(batch["boxes"], [96, 64, 96, 64])}
    mirrored = Augmentation(None, "mirror", **ALL_THAT_IS_SEEN)(batch, np.random.default_rng(0))
    assert mirrored["image"].shape == (8, 64, 96, 1)
    for image, boxes, labels in zip(mirrored["image"], mirrored["boxes"], mirrored["labels"], strict=True):
        if labels[0] >= 0:
            assert boxes[0].tolist() == bounds(image[..., 0])
    assert Augmentation(32)(batch, np.random.default_rng(0))["image"].shape == (8, 32, 32, 1)


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
@pytest.mark.parametrize("symmetry", ["none", "square"])
def test_jitter_moves_the_template_alone(symmetry, mosaic):
    rng = np.random.default_rng(0)
    boards, templates = rng.integers(0, 2, (2, 16, 64, 64), np.uint8)
    batch = {
        "image": np.stack([boards, boards ^ templates], -1),
        "boxes": np.zeros((16, 1, 4), np.float32),
        "labels": np.full((16, 1), -1, np.int32),
    }

    def drawn(jitter):
        augment = Augmentation(32, symmetry=symmetry, mosaic=mosaic, jitter=jitter)
        return augment(batch, np.random.default_rng(1))["image"]

    still, moved = drawn(0), drawn(3)
    np.testing.assert_array_equal(still[..., 0], moved[..., 0])
    changed = (still != moved).any((1, 2, 3))
    assert 4 <= changed.sum() <= 12, "half of them"
    if symmetry == "none" and not mosaic:
        for image in np.flatnonzero(changed):
            window = np.lib.stride_tricks.sliding_window_view
            board, template = window(boards[image], (32, 32)), window(templates[image], (32, 32))
            y, x = np.argwhere((board == moved[image, ..., 0]).all((2, 3)))[0]
            found = np.argwhere((template == moved[image, ..., 0] ^ moved[image, ..., 1]).all((2, 3)))
            assert len(found) == 1 and (abs(found[0] - (y, x)) <= 3).all()


def test_jitter_needs_a_board_and_its_template():
    with pytest.raises(ValueError, match="`jitter` must be at least 0 pixels, got -1"):
        Augmentation(jitter=-1)
    with pytest.raises(ValueError, match="needs images of a board and its template"):
        check_fits(Augmentation(32, jitter=1), (64, 64, 3))


@pytest.mark.parametrize("crop", [None, 64])
def test_jitter_needs_room_beside_the_crop(crop):
    with pytest.raises(ValueError, match="`crop` must leave 2, got"):
        check_fits(Augmentation(crop, jitter=2), (64, 64, 2))


def test_images_need_not_be_contiguous():
    images = np.random.default_rng(0).integers(0, 2, (4, 2, 64, 64), np.uint8).transpose(0, 2, 3, 1)
    boxes, labels = np.zeros((4, 1, 4), np.float32), np.full((4, 1), -1, np.int32)

    def drawn(image):
        return Augmentation(32)({"image": image, "boxes": boxes, "labels": labels}, np.random.default_rng(0))["image"]

    np.testing.assert_array_equal(drawn(images), drawn(np.ascontiguousarray(images)))
