"""A template is moved to where it differs least from its board."""

import numpy as np
import pytest

from qat.data.images.alignment import aligned


def moved(image, down, right):
    """The image moved, what comes in from beyond its border true."""
    height, width = image.shape
    padded = np.pad(image, 32, constant_values=True)
    return padded[32 - down : 32 - down + height, 32 - right : 32 - right + width]


@pytest.mark.parametrize("move", [(0, 0), (3, -2), (-7, 5), (16, -16), (-1, 15)])
def test_a_template_that_lies_beside_its_board_is_moved_onto_it(drawn, move):
    _, template, _ = drawn[0]
    found = aligned(template, moved(template, *move))
    np.testing.assert_array_equal(found, template)


def test_defects_do_not_hide_the_move_and_stay(drawn):
    _, template, objects = drawn[1]
    board = template.copy()
    for x1, y1, x2, y2 in objects.boxes.astype(int):
        board[y1:y2, x1:x2] ^= True
    found = aligned(board, moved(template, 4, 9))
    np.testing.assert_array_equal(board ^ found, board ^ template)


def test_what_the_moved_template_does_not_reach_differs_nowhere(drawn):
    board, template, _ = drawn[1]
    differing = board ^ aligned(board, moved(template, 4, -9))
    assert not differing[-4:].any()
    assert not differing[:, :9].any()


def test_without_a_better_place_a_template_stays():
    board, template = np.zeros((64, 64), bool), np.ones((64, 64), bool)
    np.testing.assert_array_equal(aligned(board, template), template)


@pytest.mark.parametrize("shape", [(32, 32), (8, 40), (1, 1)])
def test_small_images_are_compared_as_far_as_they_reach(shape):
    template = np.random.default_rng(0).random(shape) < 0.5
    np.testing.assert_array_equal(aligned(template, template), template)
