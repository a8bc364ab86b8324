"""Boxes and their overlaps, against hand cases and as properties over random ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.tasks.detection.boxes import LEAST_SIDE, area, ciou, intersection, iou, pairwise_iou, sides


def random_boxes(seed, count=500, span=100.0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, span, (count, 2))
    return jnp.asarray(np.concatenate([corner, corner + rng.uniform(0.5, span, (count, 2))], -1), jnp.float32)


A, B = random_boxes(0), random_boxes(1)

HAND_CASES = {
    "the same": ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
    "half of it": ((0, 0, 10, 10), (0, 0, 10, 5), 0.5),
    "a corner": ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
    "inside": ((0, 0, 10, 10), (4, 4, 6, 6), 0.04),
    "touching": ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
    "apart": ((0, 0, 10, 10), (30, 30, 40, 40), 0.0),
    "without an area": ((5, 5, 5, 5), (5, 5, 5, 5), 0.0),
    "inside out": ((10, 10, 0, 0), (0, 0, 10, 10), 0.0),
}
DEGENERATE = {
    "the same": ([3.0, 3, 9, 9], [3.0, 3, 9, 9]),
    "a point in a box": ([5.0, 5, 5, 5], [0.0, 0, 10, 10]),
    "a point and itself": ([5.0, 5, 5, 5], [5.0, 5, 5, 5]),
    "a line": ([0.0, 5, 10, 5], [0.0, 0, 10, 10]),
    "padding": ([2.0, 2, 4, 8], [0.0, 0, 0, 0]),
    "padding on padding": ([0.0, 0, 0, 0], [0.0, 0, 0, 0]),
    "inside out": ([9.0, 9, 1, 1], [0.0, 0, 10, 10]),
    "tiny": ([1e-6, 1e-6, 2e-6, 2e-6], [0.0, 0, 1e-6, 1e-6]),
    "huge": ([-1e5, -1e5, 1e5, 1e5], [0.0, 0, 10, 10]),
}


@pytest.mark.parametrize(("a", "b", "expected"), HAND_CASES.values(), ids=HAND_CASES)
def test_iou_of_hand_cases(a, b, expected):
    assert float(iou(jnp.array(a, jnp.float32), jnp.array(b, jnp.float32))) == pytest.approx(expected, abs=1e-6)


def test_iou_is_symmetric_and_a_fraction():
    found = np.asarray(iou(A, B))
    np.testing.assert_array_equal(found, iou(B, A))
    assert found.min() >= 0 and found.max() <= 1


def test_iou_changes_neither_with_the_place_nor_with_the_unit():
    np.testing.assert_allclose(iou(A + 7, B + 7), iou(A, B), atol=1e-5)
    np.testing.assert_allclose(iou(3 * A, 3 * B), iou(A, B), atol=1e-6)


def test_the_shared_area_is_no_more_than_either_area():
    shared = np.asarray(intersection(A, B))
    assert (shared <= np.minimum(area(A), area(B)) * (1 + 1e-6)).all()


def test_sides_are_never_negative():
    assert np.asarray(sides(A[:, jnp.array([2, 3, 0, 1])])).max() == 0


def test_pairwise_overlaps_are_those_of_each_pair():
    pairs = np.asarray(pairwise_iou(A[:20], B[:30]))
    assert pairs.shape == (20, 30)
    np.testing.assert_array_equal(pairs[3], iou(A[3], B[:30]))


def test_ciou_is_symmetric_and_at_most_the_iou():
    found = np.asarray(ciou(A, B))
    np.testing.assert_allclose(found, ciou(B, A), atol=1e-6)
    assert (found <= np.asarray(iou(A, B)) + 1e-6).all() and found.min() > -2


def test_ciou_of_a_box_with_itself_is_one():
    np.testing.assert_allclose(ciou(A, A), 1.0, atol=1e-5)


def test_ciou_of_boxes_of_one_shape_is_iou_less_the_distance_of_the_centres():
    a, b = jnp.array([0.0, 0, 10, 10]), jnp.array([20.0, 0, 30, 10])
    assert float(ciou(a, b)) == pytest.approx(0 - 20**2 / (30**2 + 10**2), abs=1e-6)


def test_ciou_of_boxes_of_one_centre_is_iou_less_the_difference_of_shape():
    a, b = jnp.array([0.0, 0, 20, 10]), jnp.array([5.0, -5, 15, 15])
    overlap = 100 / 300
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(0.5)) ** 2
    assert float(ciou(a, b)) == pytest.approx(overlap - v**2 / (1 - overlap + v), abs=1e-5)


def test_ciou_pulls_boxes_that_do_not_overlap_towards_each_other():
    gradient = jax.grad(lambda a: ciou(a, jnp.array([50.0, 50, 60, 60])))(jnp.array([0.0, 0, 10, 10]))
    assert (gradient[:2] + gradient[2:] > 0).all()  # of the box as a whole


@pytest.mark.parametrize(("a", "b"), DEGENERATE.values(), ids=DEGENERATE)
def test_ciou_and_its_gradient_are_finite_for_degenerate_boxes(a, b):
    value, gradients = jax.value_and_grad(ciou, argnums=(0, 1))(jnp.array(a), jnp.array(b))
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_the_gradient_of_a_box_that_shrinks_to_nothing_stays_moderate():
    target = jnp.array([0.0, 0, 30, 40])
    for side in (1.0, 1e-1, 1e-3, 1e-6):
        gradient = jax.grad(ciou)(jnp.array([10.0, 10, 10 + side, 10 + 2 * side]), target)
        assert np.abs(gradient).max() < 1 / LEAST_SIDE
