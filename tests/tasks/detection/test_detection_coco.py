"""The numbers of a detector, by hand cases and in the cases that break evaluations."""

import logging

import numpy as np
import pytest

from qat.tasks.detection.metrics import metrics

NAMES = ("open", "short", "spur")
FIELDS = ("boxes", "scores", "labels", "target_boxes", "target_labels")


def arrays(images, detections=6, objects=4):
    """What `metrics` takes, from one pair of lists an image: detections (box, score, label), objects (box, label)."""
    out = {
        "boxes": np.zeros((len(images), detections, 4), np.float32),
        "scores": np.zeros((len(images), detections), np.float32),
        "labels": np.full((len(images), detections), -1, np.int32),
        "target_boxes": np.zeros((len(images), objects, 4), np.float32),
        "target_labels": np.full((len(images), objects), -1, np.int32),
    }
    for i, (found, true) in enumerate(images):
        for j, row in enumerate(found):
            for name, x in zip(FIELDS[:3], row, strict=True):
                out[name][i, j] = x
        for j, row in enumerate(true):
            for name, x in zip(FIELDS[3:], row, strict=True):
                out[name][i, j] = x
    return out


def box(x, y, width=30.0, height=30.0):
    return (x, y, x + width, y + height)


A, B, C = box(10, 10), box(100, 10), box(10, 100)
SHIFTED = box(10, 20)  # overlaps A by 600 / 1200
TRUE = [(A, 0), (B, 1), (C, 2)]


def test_what_is_found_exactly_scores_one():
    found = metrics(arrays([([(b, 0.9, label) for b, label in TRUE], TRUE)]), NAMES)
    assert {found[name] for name in ("map50_95", "map50", "map33", "f33")} == {1.0}
    assert found["map50_95/spur"] == found["f33/open"] == 1.0
    assert found["f33_threshold"] == pytest.approx(0.9)


def test_average_precision_of_a_hand_case():
    # Two objects; the right one comes after a wrong one: precision 1/2 up to recall 1/2, that is 51 of 101 recalls.
    images = [([(C, 0.9, 0), (A, 0.8, 0)], [(A, 0), (B, 0)])]
    found = metrics(arrays(images), NAMES)
    assert [found[name] for name in ("map50_95", "map50", "map33")] == pytest.approx([0.5 * 51 / 101] * 3)
    assert found["f33"] == pytest.approx(2 * 0.5 * 0.5 / (0.5 + 0.5))


def test_overlap_decides_at_which_criterion_a_box_counts():
    found = metrics(arrays([([(SHIFTED, 0.9, 0)], [(A, 0)])]), NAMES)
    assert found["map50"] == found["map33"] == 1.0
    assert found["map50_95"] == pytest.approx(0.1)
    loose = metrics(arrays([([(box(10, 24), 0.9, 0)], [(A, 0)])]), NAMES)  # 480 / 1320
    assert loose["map50"] == 0.0
    assert loose["map33"] == loose["f33"] == 1.0


def test_the_loose_overlap_must_be_above_a_third_as_it_is_written():
    exactly = arrays([([((0, 0, 33, 10), 0.9, 0)], [((0, 0, 100, 10), 0)])])
    above = arrays([([((0, 0, 34, 10), 0.9, 0)], [((0, 0, 100, 10), 0)])])
    assert [metrics(x, NAMES)["map33"] for x in (exactly, above)] == [0.0, 1.0]


def test_a_box_of_another_class_is_not_found():
    assert metrics(arrays([([(A, 0.9, 1)], [(A, 0)])]), NAMES)["map33"] == 0.0


def test_of_two_detections_of_one_object_one_is_wrong():
    found = metrics(arrays([([(A, 0.9, 0), (SHIFTED, 0.8, 0)], [(A, 0), (B, 0)])]), NAMES)
    assert found["f33"] == pytest.approx(2 / 3)  # above 0.8: one right of one, one of two found
    assert found["f33_threshold"] == pytest.approx(0.9)


def test_the_best_threshold_is_common_to_all_classes():
    # Alone, `open` were best at 0.9 and `short` at 0.3; together all but the wrong ones above 0.3 are taken.
    images = [
        ([(A, 0.9, 0), (C, 0.5, 0), (B, 0.3, 1)], [(A, 0), (B, 1)]),
        ([(B, 0.3, 1)], [(B, 1)]),
    ]
    found = metrics(arrays(images), NAMES)
    assert found["f33_threshold"] == pytest.approx(0.3)
    assert found["f33"] == pytest.approx(2 * 3 / (4 + 3))
    assert found["f33/open"] == pytest.approx(2 / 3)
    assert found["f33/short"] == 1.0


def test_detections_of_one_score_are_above_a_threshold_all_or_none():
    found = metrics(arrays([([(A, 0.5, 0), (B, 0.5, 0), (C, 0.5, 0)], [(A, 0)])]), NAMES)
    assert found["f33"] == pytest.approx(2 / (3 + 1))


def test_images_without_objects_count_by_what_is_found_on_them():
    clean = metrics(arrays([([(A, 0.9, 0)], [(A, 0)]), ([], [])]), NAMES)
    disturbed = metrics(arrays([([(A, 0.8, 0)], [(A, 0)]), ([(B, 0.9, 0)], [])]), NAMES)
    assert clean["map50_95"] == 1.0
    assert disturbed["map50_95"] == pytest.approx(0.5)


def test_no_detection_at_all_is_zero():
    found = metrics(arrays([([], TRUE), ([], [])]), NAMES)
    assert {v for name, v in found.items() if not name.endswith("_threshold")} == {0.0}


def test_a_class_without_objects_has_no_number_and_does_not_count():
    found = metrics(arrays([([(A, 0.9, 0), (B, 0.8, 2)], [(A, 0)])]), NAMES)
    assert found["map50_95"] == found["map33"] == 1.0
    assert not any(name.endswith(("/short", "/spur")) for name in found)
    assert found["f33"] == 1.0  # above 0.8 the other one is gone


def test_all_numbers_are_plain_finite_fractions():
    found = metrics(arrays([([(A, 0.9, 0), (B, 0.8, 2)], TRUE), ([], [])]))
    assert all(type(v) is float and 0 <= v <= 1 for v in found.values())
    assert "map50/2" in found


def test_neither_order_nor_size_of_the_arrays_matters():
    images = [([(A, 0.9, 0), (B, 0.4, 1)], TRUE), ([(C, 0.3, 2)], [(A, 1)]), ([], TRUE)]
    first = metrics(arrays(images), NAMES)
    assert metrics(arrays(images[::-1], detections=20, objects=9), NAMES) == first


def test_a_split_without_any_object_is_refused():
    with pytest.raises(ValueError, match="average precision is not defined"):
        metrics(arrays([([(A, 0.9, 0)], []), ([], [])]), NAMES)


def test_a_label_without_a_name_is_refused():
    with pytest.raises(ValueError, match="there are 2 names and a label 2"):
        metrics(arrays([([], TRUE)]), NAMES[:2])


def test_evaluation_is_silent(capfd, caplog):
    with caplog.at_level(logging.WARNING):
        metrics(arrays([([(A, 0.9, 0)], TRUE), ([], [])]), NAMES)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
