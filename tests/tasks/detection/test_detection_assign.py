"""Which point stands for which object: properties over random boards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.tasks.detection.boxes import STRIDES, points, to_boxes
from qat.tasks.detection.loss import Assigner

CENTRES, SIZES = (np.asarray(each) for each in points(256, 256))
ASSIGN = jax.jit(Assigner())


def apart(seed, count=6, low=8, high=60, span=256):
    """Boxes that do not touch, and how many there are; unused rows are zero."""
    rng, boxes = np.random.default_rng(seed), []
    for _ in range(200):
        size = rng.uniform(low, high, 2)
        corner = rng.uniform(0, span - size)
        new = np.concatenate([corner, corner + size])
        if len(boxes) < count and all((new[:2] >= b[2:]).any() or (new[2:] <= b[:2]).any() for b in boxes):
            boxes.append(new)
    return np.array(boxes, np.float32)


def assigned(boxes, present=None):
    boxes = jnp.asarray(boxes, jnp.float32)
    chosen, positive = ASSIGN(CENTRES, SIZES, boxes, jnp.ones(len(boxes), bool) if present is None else present)
    return np.asarray(chosen), np.asarray(positive)


def levels(boxes):
    """The strides at which each box has points."""
    chosen, positive = assigned(boxes)
    return [set(SIZES[positive & (chosen == i)].astype(int)) for i in range(len(boxes))]


@pytest.mark.parametrize("seed", range(20))
def test_every_object_that_is_no_thinner_than_a_cell_has_a_point(seed):
    boxes = apart(seed)
    chosen, positive = assigned(boxes)
    assert set(chosen[positive]) == set(range(len(boxes)))


@pytest.mark.parametrize("seed", range(5))
def test_long_and_thin_objects_have_a_point_too(seed):
    rng = np.random.default_rng(seed)
    for width, height in rng.uniform((8, 80), (12, 250), (20, 2)):
        x, y = rng.uniform(0, 256 - width), rng.uniform(0, 256 - height)
        assert assigned([[x, y, x + width, y + height]])[1].any()
        assert assigned([[y, x, y + height, x + width]])[1].any()


@pytest.mark.parametrize("seed", range(10))
def test_points_lie_inside_their_box_and_near_its_centre(seed):
    boxes = apart(seed, low=4, high=200)
    chosen, positive = assigned(boxes)
    at, mine = CENTRES[positive], boxes[chosen[positive]]
    assert (at > mine[:, :2]).all() and (at < mine[:, 2:]).all()
    away = np.abs(at - (mine[:, :2] + mine[:, 2:]) / 2).max(-1)
    assert (away <= 1.5 * SIZES[positive]).all()


def test_a_point_in_several_boxes_stands_for_the_smallest():
    boxes = [[0, 0, 60, 60], [16, 16, 44, 44], [20, 20, 40, 40]]
    chosen, positive = assigned(boxes)
    at = (CENTRES == (28, 28)).all(-1) & (SIZES == 8)
    assert positive[at].all() and chosen[at] == [2]


def test_of_boxes_of_one_size_the_nearest_counts():
    boxes = [[10, 20, 34, 44], [20, 20, 44, 44]]
    chosen, positive = assigned(boxes)
    at = (CENTRES == (36, 28)).all(-1) & (SIZES == 8)
    assert positive[at].all() and chosen[at] == [1]


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_the_objects_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 200, (12, 2))
    boxes = np.concatenate([corner, corner + rng.choice([16, 24, 32, 56], (12, 2))], -1).astype(np.float32)
    boxes = np.unique(boxes, axis=0)  # which of two equal boxes is meant cannot matter
    order = rng.permutation(len(boxes))
    first, second = assigned(boxes), assigned(boxes[order])
    np.testing.assert_array_equal(first[1], second[1])
    one, other = boxes[first[0][first[1]]], boxes[order][second[0][second[1]]]
    np.testing.assert_array_equal((one[:, 2:] - one[:, :2]).prod(-1), (other[:, 2:] - other[:, :2]).prod(-1))
    centre = [(b[:, :2] + b[:, 2:]) / 2 for b in (one, other)]
    away = [np.abs(CENTRES[first[1]] - c).max(-1) for c in centre]
    np.testing.assert_array_equal(away[0], away[1])


@pytest.mark.parametrize("filling", [0.0, 50.0, np.nan], ids=["zeros", "boxes", "nan"])
def test_rows_without_an_object_do_not_matter(filling):
    boxes = apart(3)
    padded = np.concatenate([np.full((4, 4), filling, np.float32), boxes])
    if filling:
        padded[:4, 2:] += 60
    chosen, positive = assigned(padded, jnp.arange(len(padded)) >= 4)
    alone = assigned(boxes)
    np.testing.assert_array_equal(positive, alone[1])
    np.testing.assert_array_equal(chosen[positive] - 4, alone[0][positive])


def test_no_object_means_no_point():
    assert not assigned(np.zeros((3, 4)), jnp.zeros(3, bool))[1].any()


def test_larger_objects_are_left_to_coarser_levels():
    assert levels([[40, 40, 100, 100]]) == [{8}]
    assert levels([[40, 40, 140, 140]]) == [{16}]
    assert levels([[40, 40, 240, 240]]) == [{32}]


def test_an_object_has_points_on_one_level_alone():
    assert {len(found) for seed in range(5) for found in levels(apart(seed, low=10, high=250, count=1))} == {1}


def test_points_are_the_centres_of_cells_level_by_level():
    centres, sizes = points(64, 96)
    assert [int((sizes == stride).sum()) for stride in STRIDES] == [96, 24, 6]
    assert centres[:2].tolist() == [[4, 4], [12, 4]]
    assert centres[12].tolist() == [4, 12]
    assert centres[-1].tolist() == [80, 48]


def test_an_image_that_cells_do_not_fill_is_refused():
    with pytest.raises(ValueError, match=r"must be multiples of the strides \(8, 16, 32\), got 650 and 640"):
        points(650, 640)


def test_boxes_reach_as_far_from_their_points_as_the_distances_say():
    boxes = to_boxes(jnp.array([[10.0, 20.0]]), jnp.array([[1.0, 2, 3, 4]]))
    assert boxes.tolist() == [[9, 18, 13, 24]]
