"""Intervals over seeds: against published values and against simulation."""

import numpy as np
import pytest

from qat.stats import estimate, paired_difference


def test_the_interval_is_students():
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    # t(0.975, 2 degrees of freedom) = 4.302653, standard error = 1 / sqrt(3)
    assert found.half_width == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert found.low == pytest.approx(2.0 - 4.302653 / np.sqrt(3), rel=1e-6)


def test_one_seed_supports_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.low, found.high, found.half_width, found.n) == (0.5, None, None, None, 1)


def test_equal_seeds_have_an_interval_of_no_width():
    found = estimate([0.25, 0.25, 0.25])
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)


def test_the_interval_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    intervals = [estimate(list(rng.normal(3.0, 2.0, size=4))) for _ in range(2000)]
    covered = np.mean([i.low < 3.0 < i.high for i in intervals if i.low is not None and i.high is not None])
    assert 0.94 < covered < 0.96  # the standard error of the share is 0.005


def test_pairing_removes_what_seeds_share():
    first, second = [90.0, 95.0, 99.0], [89.0, 93.9, 98.1]
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(1.0)
    assert found.half_width is not None
    assert found.half_width < 0.3
    assert (estimate(first).half_width or 0) > 10


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]], ids=["none", "nan", "inf"])
def test_what_is_no_sample_is_refused(values):
    with pytest.raises(ValueError, match="`values` must be finite numbers"):
        estimate(values)


def test_unequal_lengths_do_not_pair_up():
    with pytest.raises(ValueError, match="pair up seed by seed, got 2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
