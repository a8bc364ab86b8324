"""The upper end of a drop holds for further examples as often as it says, whatever the metric."""

import numpy as np
import pytest

from qat.lab.stats.drop import paired_drop
from qat.tasks.metric import Metric, fraction

ACCURACY, ERROR = fraction("accuracy"), Metric("rmse", "lower")


def mean_accuracy(arrays):
    return {"accuracy": float(np.mean(arrays["accuracy"]))}


def test_of_right_and_wrong_it_is_agresti_and_mins():
    before, after = np.ones(98), np.ones(98)
    after[:6] = 0
    before[-2:] = 0
    drop, upper = paired_drop(ACCURACY, mean_accuracy, {"accuracy": before}, {"accuracy": after})
    assert drop == pytest.approx(100 * 4 / 98)
    spread = np.sqrt(9 - 16 / 100) / 100
    assert upper == pytest.approx(100 * (4 / 100 + 1.6448536 * spread))


def test_equal_answers_leave_a_doubt_that_falls_with_their_number():
    same = [{"accuracy": np.ones(n)} for n in (50, 500, 5000)]
    uppers = [paired_drop(ACCURACY, mean_accuracy, arrays, arrays)[1] for arrays in same]
    assert uppers[0] > uppers[1] > uppers[2] > 0
    assert uppers[2] < 0.1


@pytest.mark.parametrize("binary", [True, False])
def test_it_covers_the_true_drop_in_about_95_of_100_samples(binary):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        if binary:
            before = (rng.random(300) < 0.9).astype(float)
            after = np.where(rng.random(300) < 0.05, 0.0, before)
            truth = 100 * 0.9 * 0.05
        else:
            before = rng.normal(size=300)
            after = before - rng.normal(0.1, 1.0, size=300)
            truth = 10.0
        covered += paired_drop(ACCURACY, mean_accuracy, {"accuracy": before}, {"accuracy": after})[1] >= truth
    assert 0.9 <= covered / 400 <= 0.98


def test_a_metric_that_is_no_mean_is_resampled_and_a_rise_of_an_error_is_a_drop():
    def summary(arrays):
        return {"rmse": float(np.sqrt(np.mean(arrays["error"] ** 2)))}

    rng = np.random.default_rng(0)
    before = {"error": rng.normal(size=400)}
    after = {"error": 1.2 * before["error"]}
    drop, upper = paired_drop(ERROR, summary, before, after)
    assert drop == pytest.approx(0.2 * summary(before)["rmse"])
    assert drop < upper < 1.3 * drop
