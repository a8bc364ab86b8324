"""What seeds support: intervals, tests, equivalence and correction, against published values and simulation."""

import math

import numpy as np
import pytest

from qat.lab.stats import compare_seeds, detectable, equivalence, estimate, holm, paired_difference, seeds_needed

# Hours of sleep gained by ten patients with each of two drugs (Student 1908), as R's `sleep`.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_the_interval_is_students():
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    # t(0.975, 2 degrees of freedom) = 4.302653, standard error = 1 / sqrt(3)
    assert found.half_width == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert found.low == pytest.approx(2.0 - 4.302653 / np.sqrt(3), rel=1e-6)


def test_one_seed_supports_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.low, found.high, found.half_width, found.n) == (0.5, None, None, None, 1)


@pytest.mark.parametrize("noise", [0.0, 1e-14], ids=["exactly", "but for rounding"])
def test_equal_seeds_have_an_interval_of_no_width(noise):
    found = estimate([0.25, 0.25 + noise, 0.25])
    assert found.low == found.mean == found.high == pytest.approx(0.25)


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


def test_an_estimate_scales_to_another_unit():
    found = estimate([0.1, 0.2, 0.3])
    scaled = found.scaled(100)
    assert (scaled.mean, scaled.n) == (pytest.approx(20.0), 3)
    assert scaled.half_width == pytest.approx(100 * (found.half_width or 0))
    assert estimate([0.1]).scaled(100).low is None


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]], ids=["none", "nan", "inf"])
def test_what_is_no_sample_is_refused(values):
    with pytest.raises(ValueError, match="`values` must be finite numbers"):
        estimate(values)
    for function in (paired_difference, compare_seeds):
        with pytest.raises(ValueError, match="`first` must be finite numbers"):
            function(values, values)


def test_what_is_detectable_is_what_the_paired_test_just_shows():
    rng = np.random.default_rng(6)
    for n in (2, 3, 8):
        noise = rng.normal(size=n)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        found = [
            compare_seeds((noise + f * detectable(n)).tolist(), [0.0] * n).p_difference or 1.0 for f in (0.99, 1.01)
        ]
        assert found[0] > 0.05 > found[1]
    assert detectable(4, 10) > detectable(4, 2) > detectable(4)
    with pytest.raises(ValueError, match="`seeds` must be at least 2, got 1"):
        detectable(1)


def test_unequal_lengths_do_not_pair_up():
    for function in (paired_difference, compare_seeds):
        with pytest.raises(ValueError, match="pair up seed by seed, got 2 and 1"):
            function([1.0, 2.0], [1.0])


def test_the_paired_test_gives_the_published_values():
    found = compare_seeds(DRUG_2, DRUG_1)
    assert found.difference.mean == pytest.approx(1.58)
    assert (found.difference.low, found.difference.high) == (pytest.approx(0.7001142), pytest.approx(2.4598858))
    assert found.p_difference == pytest.approx(0.002833, abs=1e-6)
    assert (found.p_equivalence, found.over, found.test) == (None, "seeds", "paired t test")


def test_the_paired_test_errs_once_in_20_where_nothing_differs():
    rng = np.random.default_rng(1)
    p_values = [compare_seeds(*rng.normal(size=(2, 4)).tolist()).p_difference or 0.0 for _ in range(1000)]
    assert 0.035 < np.mean(np.array(p_values) <= 0.05) < 0.065  # the standard error of the share is 0.007


def test_equivalence_is_two_one_sided_t_tests():
    found = equivalence([0.1, -0.1, 0.2, -0.2], [0.0, 0.0, 0.0, 0.0], 0.3)
    t = 0.3 / (math.sqrt(0.1 / 3) / 2)  # the mean is zero, the sum of squares 0.1
    x = t / math.sqrt(3)
    p = 0.5 - (x / (1 + x * x) + math.atan(x)) / math.pi  # Student's distribution of 3 degrees of freedom
    assert found.p_value == pytest.approx(p)
    assert (found.p_not_better, found.p_not_worse, found.n) == (pytest.approx(p), pytest.approx(p), 4)


def test_being_no_better_is_half_of_equivalence():
    rng = np.random.default_rng(2)
    ptq = rng.normal(95, 1, size=8)
    qat = ptq - 1 + rng.normal(0, 0.2, size=8)
    found = equivalence(qat.tolist(), ptq.tolist(), 0.3)
    assert found.p_not_better is not None and found.p_not_better < 0.001
    assert found.p_not_worse is not None and found.p_not_worse > 0.9
    assert found.p_value == found.p_not_worse


def test_equivalence_is_shown_once_in_20_where_the_difference_is_the_margin():
    rng = np.random.default_rng(3)
    samples = rng.normal(0.3, 0.1, size=(1000, 5))
    shown = [(equivalence(sample.tolist(), [0.0] * 5, 0.3).p_value or 0.0) <= 0.05 for sample in samples]
    assert 0.035 < np.mean(shown) < 0.065


def test_equivalence_is_symmetric_in_the_arms():
    found, swapped = equivalence(DRUG_1, DRUG_2, 2.0), equivalence(DRUG_2, DRUG_1, 2.0)
    assert found.p_value == pytest.approx(swapped.p_value)
    assert (found.p_not_better, found.p_not_worse) == (swapped.p_not_worse, swapped.p_not_better)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match="`margin` must be positive"):
        equivalence([1.0, 2.0], [1.0, 2.5], margin)


def test_one_seed_has_no_p_value():
    found = compare_seeds([0.9], [0.8], 0.3)
    assert (found.difference.n, found.p_difference, found.p_equivalence) == (1, None, None)
    assert equivalence([0.9], [0.8], 0.3).p_value is None


@pytest.mark.parametrize(
    ("shift", "p_difference", "p_equivalence"), [(0.0, 1.0, 1 / 16), (0.2, 1 / 8, 1 / 16), (0.4, 1 / 8, 1.0)]
)
def test_differences_without_spread_are_judged_by_their_sign(shift, p_difference, p_equivalence):
    second = [90.1, 95.3, 88.7, 91.9]
    found = compare_seeds([value + shift for value in second], second, 0.3)  # the same but for rounding
    assert (found.p_difference, found.p_equivalence) == (p_difference, p_equivalence)
    assert found.difference.low == found.difference.mean == found.difference.high == pytest.approx(shift)
    assert found.test.startswith("sign test")


def test_holm_gives_the_published_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_keeps_the_order_and_never_makes_a_p_value_smaller():
    rng = np.random.default_rng(4)
    p = rng.random(50) ** 3
    corrected = np.array(holm(p.tolist()))
    assert (corrected >= p).all() and (corrected <= 1).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    shuffled = rng.permutation(50)
    np.testing.assert_allclose(holm(p[shuffled].tolist()), corrected[shuffled])


def test_one_arm_needs_no_correction():
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match="`p_values` must be in"):
        holm([0.5, p])


def test_the_seeds_needed_narrow_the_interval_to_the_wish():
    rng = np.random.default_rng(5)
    seen = estimate(rng.normal(size=5).tolist())
    assert seen.half_width is not None
    n = seeds_needed(seen, seen.half_width / 3)
    assert n is not None and 9 * 5 > n > 5 * 3  # by the square of 3, less what more degrees of freedom give
    assert seeds_needed(seen, seen.half_width * 1.0001) == 5
    assert seeds_needed(seen, 1e-6) is None
    with pytest.raises(ValueError, match="two seeds or more"):
        seeds_needed(estimate([1.0]), 1.0)
