"""Average precision on images drawn anew is that of the library on these images."""

import time

import numpy as np
import pytest
from made_up_detections import made_up

from qat.tasks.detection.metrics import metrics
from qat.tasks.detection.resample import CRITERIA, resampled_ap


@pytest.mark.parametrize("name", CRITERIA)
def test_every_draw_has_the_librarys_value_on_its_images(name):
    arrays = made_up(decimals=9)  # equal scores of one image stand in another order in an image that is there twice
    draws = np.random.default_rng(1).integers(0, 20, (4, 20))
    draws[0] = np.arange(20)
    counts = np.stack([np.bincount(one, minlength=20) for one in draws])
    expected = [metrics({key: x[draw] for key, x in arrays.items()})[name] for draw in draws]
    assert resampled_ap(arrays, name, counts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", CRITERIA)
def test_of_the_images_themselves_equal_scores_count_as_the_library_counts_them(name):
    arrays = made_up()
    assert resampled_ap(arrays, name, np.ones((1, 20), int))[0] == pytest.approx(metrics(arrays)[name], abs=1e-9)


def test_a_draw_without_objects_has_no_value():
    arrays = made_up(images=3)
    arrays["target_labels"][0] = -1
    found = resampled_ap(arrays, "map50", np.array([[3, 0, 0], [0, 1, 2]]))
    assert np.isnan(found[0]) and np.isfinite(found[1])


def test_500_images_and_500_draws_take_seconds():
    arrays = made_up(images=500, detections=100)
    counts = np.random.default_rng(0).multinomial(500, np.full(500, 1 / 500), 500)
    started = time.monotonic()
    assert resampled_ap(arrays, "map50_95", counts).std() > 0
    assert time.monotonic() - started < 60  # some 4 s on a free core
