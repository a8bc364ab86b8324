"""Pictures of detections: what is drawn, where, and what is marked."""

import numpy as np
import pytest

from qat.lab.inspect.detector.draw import ALARM, COLOURS, differing, draw, draw_beside
from qat.tasks.detection.decode import Detections

NAMES = ("open", "short")
BLACK, WHITE = np.zeros((640, 640), np.uint8), np.full((640, 640), 255, np.uint8)
A, B, C = (100, 100, 150, 140), (300, 320, 340, 380), (500, 60, 560, 100)


def found(*rows, size=10):
    """Detections of one image from (box, score, label)."""
    boxes, scores, labels = np.zeros((size, 4), np.float32), np.zeros(size, np.float32), np.full(size, -1, np.int32)
    for i, row in enumerate(rows):
        boxes[i], scores[i], labels[i] = row
    return Detections(boxes, scores, labels)  # pyright: ignore[reportArgumentType]


def coloured(picture, colour):
    """Where a picture has exactly this colour."""
    return (np.asarray(picture) == colour).all(-1)


@pytest.mark.parametrize("image", [BLACK, WHITE, np.stack([BLACK, WHITE, BLACK], -1)], ids=["black", "white", "rgb"])
def test_a_frame_of_its_class_goes_around_each_box(image):
    picture = draw(image, found((A, 0.9, 0), (B, 0.8, 1)), NAMES)
    for box, colour in ((A, COLOURS[0]), (B, COLOURS[1])):
        x1, y1, x2, y2 = (2 * side for side in box)
        of_class = coloured(picture, colour)
        for x, y in ((x1 - 3, (y1 + y2) // 2), (x2 + 2, (y1 + y2) // 2), ((x1 + x2) // 2, y2 + 2)):
            assert of_class[y - 3 : y + 4, x - 3 : x + 4].any()
        assert not of_class[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8].any()


@pytest.mark.parametrize("image", [BLACK, WHITE], ids=["black", "white"])
def test_frames_and_labels_stand_out_from_the_board(image):
    picture = np.asarray(draw(image, found((A, 0.9, 0)), NAMES)).astype(int)
    board = picture[-100, -100]
    for colour in COLOURS:
        assert np.abs(board - colour).sum() > 90


def test_what_is_below_the_threshold_is_not_drawn():
    first = draw(BLACK, found((A, 0.9, 0), (B, 0.2, 1)), NAMES, threshold=0.3)
    second = draw(BLACK, found((A, 0.9, 0)), NAMES, threshold=0.3)
    assert first.tobytes() == second.tobytes()


def test_nothing_found_leaves_the_board_alone():
    assert len(np.unique(np.asarray(draw(BLACK, found(), NAMES)))) == 1


def test_a_caption_gets_a_strip_of_its_own():
    plain, told = draw(BLACK, found(), NAMES), draw(BLACK, found(), NAMES, caption="int8")
    assert plain.size == (1280, 1280)
    assert told.width == 1280 and told.height > 1280
    assert np.asarray(told)[1280:].min() < 100


@pytest.mark.parametrize(("side", "factor"), [(64, 16), (640, 2), (1500, 1)])
def test_small_images_are_enlarged_by_whole_factors(side, factor):
    assert draw(np.zeros((side, side // 2), np.uint8), found(), NAMES).size == (side // 2 * factor, side * factor)


def test_labels_stay_inside_the_picture_and_off_one_another():
    crowd = [((x, y, x + 30, y + 30), 0.9, (x + y) // 40 % 2) for x in (0, 305, 610) for y in (0, 40, 610)]
    picture = draw(WHITE, found(*crowd), NAMES)
    text = coloured(picture, COLOURS[0]) | coloured(picture, COLOURS[1])
    alone = sum(
        (coloured(one, COLOURS[0]) | coloured(one, COLOURS[1])).sum()
        for one in (draw(WHITE, found(row), NAMES) for row in crowd)
    )
    assert text.sum() > 0.97 * alone  # nothing is hidden under something else


def test_what_both_find_does_not_differ_and_what_one_finds_does():
    moved = tuple(side + 3 for side in A)
    first, second = differing(found((A, 0.9, 0), (B, 0.8, 1)), found((moved, 0.7, 0), (C, 0.6, 1)), 0.5)
    assert np.flatnonzero(first).tolist() == [1]
    assert np.flatnonzero(second).tolist() == [1]


def test_another_class_at_one_place_differs_on_both_sides():
    first, second = differing(found((A, 0.9, 0)), found((A, 0.9, 1)), 0.5)
    assert first.sum() == second.sum() == 1


def test_a_detection_that_falls_below_the_threshold_differs_on_the_other_side():
    first, second = differing(found((A, 0.9, 0)), found((A, 0.4, 0)), 0.5)
    assert (first.sum(), second.sum()) == (1, 0)


def test_a_detection_is_the_counterpart_of_one_other_alone():
    near = tuple(side + 2 for side in A)
    first, second = differing(found((A, 0.9, 0)), found((near, 0.9, 0), (A, 0.8, 0)), 0.5)
    assert first.sum() == 0
    assert np.flatnonzero(second).tolist() == [0]


def test_beside_one_another_what_differs_is_marked_and_nothing_else():
    both, more = found((A, 0.9, 0)), found((A, 0.9, 0), (B, 0.8, 1))
    same = draw_beside(BLACK, ("float", both), ("int8", both), NAMES)
    other = draw_beside(BLACK, ("float", both), ("int8", more), NAMES)
    assert same.size == other.size and same.width > 2 * 1280
    assert not coloured(same, ALARM).any()
    marks = np.nonzero(coloured(other, ALARM))
    assert marks[1].min() > 1280
    assert abs(np.median(marks[0]) - (320 + 380)) < 80
