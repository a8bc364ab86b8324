"""Verdicts: what is claimed, for which doubt, and in which words."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from qat.lab.stats import Comparison, Terms, compare_items, compare_seeds, judge

FLOAT = [97.0, 97.6, 96.8, 97.3, 97.1]
POINTS: dict[str, Any] = {"unit": "points", "decimals": 2}


def over_seeds(differences, margin=0.3):
    """Evidence of arms that differ so on each of some seeds."""
    return compare_seeds([a + b for a, b in zip(FLOAT, differences, strict=False)], FLOAT[: len(differences)], margin)


def over_items(only_first, only_second, n=1000, margin=0.3):
    """Evidence of one seed whose answers differ so, in points."""
    first, second = np.ones(n), np.ones(n)
    second[:only_first] = 0
    first[only_first : only_first + only_second] = 0
    return compare_items([(first, second)], margin / 100)[0].scaled(100)


def judged(comparisons, margin=None, **terms):
    """The verdicts on comparisons of the same terms."""
    return judge([replace(one, terms=Terms(margin, **terms)) for one in comparisons])


def verdict(seeds=None, items=None):
    """The verdict on one comparison, in points."""
    return judged([Comparison("QAT w4a4", "PTQ w4a4", seeds, items)], 0.3, **POINTS)[0]


def test_a_clear_gain_is_better_and_the_words_give_n_interval_and_p():
    found = verdict(over_seeds([1.2, 1.1, 1.35, 1.15, 1.25]))
    assert (found.kind, found.covers) == ("better", ("seeds",))
    assert found.text == (
        "QAT w4a4 is better than PTQ w4a4 by 1.21 points over 5 seeds (95 % interval 1.09 to 1.33, p < 0.001, "
        "paired t test). It holds for new seeds on the same test items."
    )


def test_a_clear_loss_is_worse_by_a_positive_number():
    found = verdict(over_seeds([-1.2, -1.1, -1.35, -1.15, -1.25]))
    assert found.kind == "worse"
    assert "is worse than PTQ w4a4 by 1.21 points over 5 seeds (95 % interval 1.09 to 1.33" in found.text


def test_a_difference_surely_within_the_margin_is_equivalence():
    found = verdict(over_seeds([0.1, 0.12, 0.09, 0.11, 0.1]))
    assert (found.kind, found.covers) == ("equivalent", ("seeds",))
    assert found.text.startswith(
        "QAT w4a4 is equivalent to PTQ w4a4 within 0.3 points: a gain of +0.10 points over 5 seeds"
    )
    assert "TOST" in found.text


def test_too_few_seeds_are_undecided_and_told_how_many_it_takes():
    found = verdict(over_seeds([1.0, -0.4, 0.3]))
    assert (found.kind, found.covers) == ("undecided", ())
    assert "QAT w4a4 against PTQ w4a4 is undecided: a gain of +0.30 points over 3 seeds" in found.text
    assert "neither a difference nor equivalence within 0.3 points" in found.text
    assert "About 24 seeds would narrow the interval to ± 0.3 points." in found.text


def test_one_seed_alone_decides_nothing():
    found = verdict(over_seeds([30.0]))
    assert (found.kind, found.covers) == ("undecided", ())
    assert found.text.endswith(
        "a gain of +30.00 points on one seed, which supports no interval over seeds. More seeds are needed."
    )


def test_one_seed_with_its_items_decides_for_items_alone():
    found = verdict(over_seeds([8.0]), over_items(100, 20))
    assert (found.kind, found.covers) == ("better", ("items",))
    assert "by 8.00 points over 1,000 test items (95 % interval" in found.text
    assert "McNemar" in found.text
    assert found.text.endswith("It holds for new test items; it says nothing of other seeds.")


def test_one_seed_whose_items_do_not_decide_needs_more_seeds():
    found = verdict(over_seeds([0.1]), over_items(3, 2))
    assert found.kind == "undecided"
    assert "over 1,000 test items" in found.text and "exact McNemar" in found.text
    assert found.text.endswith("says nothing of other seeds. More seeds are needed.")


def test_items_that_all_agree_are_said_to():
    found = verdict(over_seeds([0.0]), over_items(0, 0, n=5000))
    assert (found.kind, found.covers) == ("equivalent", ("items",))
    assert "none of them differs" in found.text


def test_seeds_and_items_that_agree_cover_both():
    found = verdict(over_seeds([8.1, 7.9, 8.0, 8.2]), over_items(100, 20))
    assert (found.kind, found.covers) == ("better", ("seeds", "items"))
    assert "It holds for new seeds, and for new test items as well (1,000 test items" in found.text


def test_seeds_decide_where_items_do_not_and_the_words_say_so():
    found = verdict(over_seeds([0.61, 0.59, 0.6, 0.62]), over_items(12, 6))
    assert (found.kind, found.covers) == ("better", ("seeds",))
    assert "on the same test items; for new items it is undecided" in found.text


def test_items_that_decide_do_not_stand_in_for_seeds():
    found = verdict(over_seeds([8.0, 15.0]), over_items(100, 20))
    assert (found.kind, found.covers) == ("undecided", ())
    assert "For these seeds alone, new test items would show it better" in found.text


@pytest.mark.parametrize("n", [2, 3, 4])
def test_equal_seeds_are_said_to_be_and_claim_nothing_that_few_seeds_cannot_show(n):
    found = verdict(over_seeds([0.0] * n))
    assert (found.kind, found.covers) == ("identical", ())
    assert found.text == (
        f"QAT w4a4 scores the same as PTQ w4a4 in each of {n} seeds. Whether it does in other seeds is not shown."
    )
    assert verdict(over_seeds([0.0] * 5)).kind == "equivalent"
    assert verdict(over_seeds([0.0] * (n - 1) + [0.9])).kind == "undecided"


def test_what_items_show_of_equal_seeds_is_said_and_is_no_sign_of_its_own():
    found = verdict(over_seeds([0.0, 0.0]), over_items(0, 0, n=5000))
    assert (found.kind, found.of_these_models) == ("identical", None)
    assert "new test items would show it equivalent (5,000 test items, none of them differs" in found.text


def test_a_drop_is_told_with_the_sign_of_a_drop():
    seeds, items = over_seeds([0.5, -0.2, 0.3, 0.0]), over_items(12, 6)
    gain, drop = (
        judged([Comparison("a", "b", seeds, items, change)], 0.3, **POINTS)[0].text for change in ("gain", "drop")
    )
    assert "a gain of +0.15 points over 4 seeds (95 % interval -0.34 to 0.64" in gain
    assert "a drop of -0.15 points over 4 seeds (95 % interval -0.64 to 0.34" in drop
    worse = judged([Comparison("a", "b", over_seeds([-1.2, -1.1, -1.35, -1.25]), change="gain")], 0.3, **POINTS)[0]
    assert worse.text.startswith("a is worse than b by 1.22 points over 4 seeds (95 % interval 1.06 to 1.39")


def test_few_seeds_are_told_one_by_one_and_no_interval_leaves_the_possible():
    few = verdict(over_seeds([70.0, -20.0]))
    assert "a gain of +25.00 points over 2 seeds (seed by seed 70.00, -20.00, p = " in few.text
    assert few.text.endswith("More seeds are needed.")
    wide = judged([Comparison("a", "b", over_seeds([90.0, -90.0, 60.0, -80.0]))], 0.3, **POINTS, largest=100.0)[0]
    assert "95 % interval -100.00 to 100.00" in wide.text
    assert wide.text.endswith("not even 1,000 seeds would narrow the interval to ± 0.3 points.")


def test_many_arms_are_corrected_and_the_words_tell_why_an_interval_is_not_enough():
    seeds = over_seeds([1.0, 1.5, 0.7, 1.3])
    alone, among = verdict(seeds), judged([Comparison("a", "b", seeds)] * 10, 0.3, **POINTS)
    assert alone.kind == "better"
    assert {one.kind for one in among} == {"undecided"}
    assert among[0].seeds is not None and alone.seeds is not None
    assert among[0].seeds.p_difference == pytest.approx(10 * (alone.seeds.p_difference or 0))
    assert "corrected for 10 comparisons" in among[0].text
    assert "that the interval excludes zero is not enough for one of 10 comparisons" in among[0].text


def test_arms_that_were_not_tested_do_not_count():
    clear, single = over_seeds([1.2, 1.1, 1.35]), over_seeds([1.0])
    found = judged([Comparison("a", "b", clear), Comparison("c", "d", single)], 0.3)
    assert found[0].seeds is not None and found[0].seeds.p_difference == clear.p_difference
    assert found[1].kind == "undecided"


def test_a_family_makes_a_false_claim_once_in_20():
    samples = np.random.default_rng(0).normal(size=(400, 4, 2, 3))
    p = stats.ttest_rel(samples[:, :, 0], samples[:, :, 1], axis=-1).pvalue
    claimed = 4 * p.min(1) <= 0.05
    assert claimed.mean() < 0.075  # the standard error of the share is 0.011
    for i in [*np.flatnonzero(claimed)[:5], *range(5)]:
        arms = [compare_seeds(*arm) for arm in samples[i].tolist()]
        assert [arm.p_difference for arm in arms] == pytest.approx(p[i], rel=1e-9)  # by another order of sums
        found = judged([Comparison("a", "b", arm) for arm in arms])
        assert any(one.kind != "undecided" for one in found) == claimed[i]


def test_without_a_margin_nothing_is_equivalent_and_numbers_have_no_unit():
    seeds = compare_seeds([1.52e-5, 1.51e-5, 1.53e-5], [1.51e-5, 1.52e-5, 1.53e-5])
    found = judged([Comparison("a", "b", seeds)])[0]
    assert found.kind == "undecided"
    assert "which shows no difference. More seeds are needed." in found.text
    assert "e-" in found.text and "points" not in found.text


def test_a_comparison_without_evidence_is_refused():
    with pytest.raises(ValueError, match="'a' against 'b' has none"):
        judged([Comparison("a", "b")])
    with pytest.raises(ValueError, match="`margin` must be positive"):
        judged([Comparison("a", "b", over_seeds([1.0, 1.1]))], margin=0.0)
    assert judge([]) == []


@pytest.mark.parametrize(("sign", "word"), [(-1, "better"), (1, "worse")])
def test_an_undecided_arm_may_still_be_shown_to_be_no_better_or_no_worse(sign, word):
    found = verdict(over_seeds([sign * value for value in (0.1, 0.5, 0.9, 0.2, 0.0)]))
    assert found.kind == "undecided"
    assert f"equivalence within 0.3 points, only that it is no {word} within 0.3 points (p = 0.0" in found.text
