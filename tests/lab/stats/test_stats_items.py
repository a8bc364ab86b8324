"""What test items support: McNemar's test and the paired bootstrap, against published values and simulation."""

import math

import numpy as np
import pytest

from qat.lab.stats import compare_items, mcnemar, paired_bootstrap


def answers(both, only_first, only_second, neither):
    """Two arrays of 0 and 1 with so many items of each kind."""
    first = [1] * (both + only_first) + [0] * (only_second + neither)
    second = [1] * both + [0] * only_first + [1] * only_second + [0] * neither
    return np.array(first, np.float32), np.array(second, np.float32)


def same(one, other):
    """Whether two findings are the same but for the order in which numbers were added."""
    bounds = [(one.difference.mean, one.difference.low, one.difference.high) for one in (one, other)]
    p_values = [(one.p_difference, one.p_equivalence, one.test) for one in (one, other)]
    return bounds[0] == pytest.approx(bounds[1], abs=1e-12) and p_values[0] == p_values[1]


def test_mcnemar_of_many_is_chi_squared_with_continuity_correction():
    found = mcnemar(*answers(794, 150, 86, 570))  # approval of a prime minister, asked twice (Agresti 1990)
    assert (found.only_first, found.only_second, found.n, found.exact) == (150, 86, 1600, False)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt((64 - 1) ** 2 / 236 / 2)))


def test_mcnemar_of_few_is_the_binomial_test():
    found = mcnemar(*answers(80, 1, 9, 10))
    assert (found.exact, found.p_value) == (True, pytest.approx(2 * (1 + 10) / 2**10))


@pytest.mark.parametrize("counts", [(70, 4, 9, 17), (300, 40, 70, 40)], ids=["exact", "chi-squared"])
def test_mcnemar_is_symmetric_in_the_arms(counts):
    first, second = answers(*counts)
    found, swapped = mcnemar(first, second), mcnemar(second, first)
    assert found.p_value == pytest.approx(swapped.p_value)
    assert (found.only_first, found.only_second) == (swapped.only_second, swapped.only_first)


def test_mcnemar_of_arms_that_agree_finds_nothing():
    assert mcnemar(*answers(5, 0, 0, 5)).p_value == 1.0
    assert mcnemar([1], [1]).p_value == 1.0


@pytest.mark.parametrize("first", [[0.5, 1.0], [2, 1], [[0, 1], [1, 1]]], ids=["fraction", "two", "two seeds"])
def test_mcnemar_is_of_right_and_wrong_of_one_seed(first):
    with pytest.raises(ValueError, match="must be 0 or 1"):
        mcnemar(first, np.ones_like(first))


def test_the_bootstrap_covers_the_truth_95_times_in_100():
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=(2, 1000, 200))
    found = compare_items(zip(first + 0.1, second, strict=True))
    bounds = [(one.difference.low, one.difference.high) for one in found]
    covered = np.mean([low < 0.1 < high for low, high in bounds if low is not None and high is not None])
    assert 0.93 < covered < 0.965  # the standard error of the share is 0.007
    claimed = np.mean([(one.p_difference or 0) <= 0.05 for one in compare_items(zip(first, second, strict=True))])
    assert 0.035 < claimed < 0.07


def test_the_bootstrap_of_many_items_agrees_with_the_normal_interval():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 3000))
    found = paired_bootstrap(first, second)
    assert found.difference.mean == pytest.approx((first - second).mean())
    assert found.difference.n == 3000
    normal = 1.96 * (first - second).std() / math.sqrt(3000)
    assert found.difference.half_width == pytest.approx(normal, rel=0.03)  # the error of 9,999 resamples is 1 %
    assert (found.over, found.test, found.p_equivalence) == ("items", "paired bootstrap", None)


def test_items_are_drawn_and_seeds_averaged_over():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 3, 400))
    assert same(paired_bootstrap(first, second), paired_bootstrap(first.mean(0) - second.mean(0), np.zeros(400)))
    one, three = (paired_bootstrap(first[:n], second[:n]).difference.half_width for n in (1, 3))
    assert one is not None and three is not None
    assert three < 0.7 * one


def test_the_bootstrap_repeats_itself_and_mirrors():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2, 100))
    found, swapped = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert found == paired_bootstrap(first, second)
    assert found != paired_bootstrap(first, second, seed=1)
    assert swapped.difference.low == pytest.approx(-(found.difference.high or 0))
    assert swapped.p_difference == pytest.approx(found.p_difference, abs=1e-3)


def test_a_comparison_does_not_depend_on_what_else_is_compared(monkeypatch):
    rng = np.random.default_rng(4)
    pairs = [tuple(rng.normal(size=(2, n))) for n in (50, 50, 50, 70, 50)]
    together = compare_items(pairs, 0.3)
    assert all(same(one, compare_items([pair], 0.3)[0]) for one, pair in zip(together, pairs, strict=True))
    monkeypatch.setattr("qat.lab.stats.items.BLOCK", 100)
    assert all(same(*both) for both in zip(together, compare_items(iter(pairs), 0.3), strict=True))
    assert compare_items([]) == []


def test_right_and_wrong_of_one_seed_are_tested_by_mcnemar():
    first, second = answers(300, 40, 70, 40)
    found = compare_items([(first, second)], 0.2)[0]
    assert (found.test, found.p_difference) == ("McNemar", mcnemar(first, second).p_value)
    assert found.p_equivalence is not None and found.p_equivalence < 0.001
    assert compare_items([answers(80, 1, 9, 10)])[0].test == "exact McNemar"


def test_a_few_differing_items_of_several_seeds_are_tested_by_their_sign():
    first = np.ones((2, 500))
    second = first.copy()
    second[0, :5] = 0  # 5 items, each lost in one seed: a bootstrap would claim p = 0.01
    found = compare_items([(first, second)])[0]
    assert found.p_difference == pytest.approx(2 / 2**5)
    assert found.test.startswith("sign test")
    assert found.difference.mean == pytest.approx(0.005)


@pytest.mark.parametrize(("margin", "shown"), [(0.003, False), (0.01, True)])
def test_items_that_all_agree_bound_the_difference_by_their_number(margin, shown):
    found = compare_items([answers(400, 0, 0, 50)], margin)[0]
    assert (found.difference.mean, found.difference.low, found.difference.high) == (0.0, None, None)
    assert found.p_difference == 1.0
    assert found.p_equivalence == pytest.approx((1 - margin) ** 450)
    assert ((1 - margin) ** 450 <= 0.05) == shown


def test_equivalence_over_items_is_rarely_shown_where_the_difference_is_the_margin():
    draws = np.random.default_rng(5).random((500, 1000))
    for misses, most in (((0.05, 0.03), 0.07), ((0.02, 0.0), 0.1)):  # liberal where all differences point one way
        arms = ((np.where(row < misses[0], 0, 1), np.where(row > 1 - misses[1], 0, 1)) for row in draws)
        found = compare_items(arms, 0.02)
        assert np.mean([(one.p_equivalence or 0) <= 0.05 for one in found]) < most  # the standard error is 0.01


def test_few_differing_items_without_bounds_show_no_equivalence():
    first = np.zeros(100)
    second = first.copy()
    second[0] = -7.5
    assert compare_items([(first, second)], 1.0)[0].p_equivalence == 1.0


def test_a_single_item_supports_nothing():
    found = compare_items([([0.5], [0.25])], 0.3)[0]
    assert (found.difference.mean, found.difference.low, found.difference.n) == (0.25, None, 1)
    assert found.p_difference == 1.0


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0, 0.0], [1.0], "must be of one shape"),
        ([], [], "not empty"),
        ([[[1.0]]], [[[1.0]]], "must be of one shape"),
        ([1.0, float("nan")], [1.0, 0.0], "must be finite"),
    ],
    ids=["lengths", "empty", "axes", "nan"],
)
def test_arrays_that_do_not_pair_up_are_refused(first, second, message):
    for function in (mcnemar, paired_bootstrap):
        with pytest.raises(ValueError, match=message):
            function(first, second)
