"""DeepPCB's published criterion, by cases worked out by hand."""

import numpy as np
import pytest

from qat.tasks.detection.metrics import metrics
from qat.tasks.detection.objects import Objects
from qat.tasks.detection.pooled import best_f, pooled

A, B, C = (10, 10, 40, 40), (100, 10, 130, 40), (10, 100, 40, 130)


def objects(rows):
    """`Objects` of rows (image, box, label, score)."""
    images, corners, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    corners = corners.astype(float)
    return Objects(images, np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], -1), labels, scores)


def of(true, found):
    return pooled(objects([(*row, 1.0) for row in true]), objects(found))


def arrays(true, found):
    """What `metrics` takes, of one image."""
    return {
        "boxes": np.array([[box for _, box, _, _ in found]], np.float32),
        "labels": np.array([[label for _, _, label, _ in found]], np.int32),
        "scores": np.array([[score for _, _, _, score in found]], np.float32),
        "target_boxes": np.array([[box for _, box, _ in true]], np.float32),
        "target_labels": np.array([[label for _, _, label in true]], np.int32),
    }


def test_precisions_at_right_detections_are_averaged_over_all_classes_and_nothing_is_interpolated():
    true = [(0, A, 0), (0, B, 1)]
    found = [(0, A, 0, 0.9), (0, C, 1, 0.8), (0, B, 1, 0.7)]
    assert of(true, found).ap == pytest.approx((1 / 1 + 2 / 3) / 2)
    # A mean over classes has 1 for the first, 1/2 for the second.
    assert metrics(arrays(true, found))["map33"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics(arrays(true, found))["deeppcb_ap"] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_precision_falls_and_rises_as_it_does():
    # right, wrong, wrong, right, right of three objects: 1/1, 2/4, 3/5; interpolated they were 1, 3/5, 3/5.
    true = [(0, A, 0), (1, A, 0), (2, A, 0)]
    found = [(0, A, 0, 0.9), (0, C, 0, 0.8), (1, C, 0, 0.7), (1, A, 0, 0.6), (2, A, 0, 0.5)]
    assert of(true, found).ap == pytest.approx((1 + 1 / 2 + 3 / 5) / 3)


def test_an_object_is_consumed_by_the_most_confident_detection_whatever_its_class():
    true = [(0, A, 0)]
    found = [(0, A, 0, 0.8), (0, A, 1, 0.9)]
    assert of(true, found) == of(true, found[::-1])
    assert (of(true, found).ap, of(true, found).f) == (0.0, 0.0)
    assert metrics(arrays(true, found))["map33"] == 1.0
    second = [(0, A, 0, 0.9), (0, A, 1, 0.8)]  # a second guess after the right one is a mistake, but comes too late
    assert of(true, second).ap == 1.0


def test_objects_take_their_detections_in_the_order_of_the_annotations():
    near = (12, 10, 42, 40)
    one = [(0, near, 1, 0.9)]
    assert of([(0, A, 0), (0, near, 1)], one).ap == 0.0  # the first object takes it, and is of another class
    assert of([(0, near, 1), (0, A, 0)], one).ap == pytest.approx(1 / 2)


def test_a_detection_is_taken_once():
    found = [(0, A, 0, 0.9), (0, A, 0, 0.8)]
    assert of([(0, A, 0), (0, B, 0)], found).ap == pytest.approx(1 / 2)
    assert of([(0, A, 0), (0, A, 0)], found).ap == 1.0


@pytest.mark.parametrize(("right", "ap"), [(33, 0.0), (33.4, 0.0), (33.6, 1.0), (34, 1.0)])
def test_the_overlap_must_be_above_a_third_as_written_in_whole_pixels(right, ap):
    assert of([(0, (0, 0, 100, 10), 0)], [(0, (0, 0, right, 10), 0, 0.5)]).ap == ap


def test_detections_on_other_images_and_on_those_without_objects_are_wrong():
    true = [(1, A, 0)]
    assert of(true, [(0, A, 0, 0.9), (1, A, 0, 0.8), (7, A, 0, 0.7)]).ap == pytest.approx(1 / 2)


def test_the_f_score_is_that_of_the_best_threshold():
    true = [(0, A, 0), (0, B, 0)]
    found = [(0, A, 0, 0.9), (0, C, 0, 0.5), (0, B, 1, 0.4)]
    # Above 0.9: one of one right, one of two found; lower thresholds add mistakes.
    assert (of(true, found).f, of(true, found).threshold) == (pytest.approx(2 / 3), 0.9)
    more = [*found, (0, B, 0, 0.95)]  # now two of two, and the other guess comes after it
    assert (of(true, more).f, of(true, more).threshold) == (1.0, 0.9)


def test_of_equal_scores_all_are_above_a_threshold_or_none():
    assert best_f(np.array([0.5, 0.5, 0.5]), np.array([True, False, False]), 1) == (pytest.approx(2 / 4), 0.5)
    assert best_f(np.array([0.5]), np.array([False]), 1) == (0.0, 1.0)


def test_without_a_detection_all_is_zero():
    nothing = Objects(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    found = pooled(objects([(0, A, 0, 1.0)]), nothing)
    assert (found.ap, found.f, found.threshold) == (0.0, 0.0, 1.0)
