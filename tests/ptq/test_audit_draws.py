"""The draws of a calibration audit and what their scores say, without a model."""

import pytest

from qat.ptq.audit import HALVES, TRAINING, Draw, Scores, audit_of, indices_of, plan_draws


def test_draws_are_of_powers_of_two_up_to_the_most_or_all_samples():
    plan = plan_draws(100, draws=2, others=("noise",))
    assert [draw.samples for draw in plan if draw.source == TRAINING] == [
        n for n in (1, 2, 4, 8, 16, 32, 64) for _ in "ab"
    ]
    assert [draw for draw in plan if draw.source != TRAINING] == [
        Draw(HALVES, 32, 0),
        Draw(HALVES, 32, 1),
        Draw("noise", 64, 0),
        Draw("noise", 64, 1),
    ]
    assert max(draw.samples for draw in plan_draws(10_000)) == 2048
    assert max(draw.samples for draw in plan_draws(10_000, most=100)) == 64
    assert len({draw.key for draw in plan}) == len(plan)


def test_the_samples_of_a_draw_differ_from_each_other_and_from_draw_to_draw():
    first, second = (indices_of(Draw(TRAINING, 64, number), 100, 0) for number in (0, 1))
    assert len(set(first)) == 64 and set(first) != set(second)
    assert (
        indices_of(Draw(TRAINING, 64, 0), 100, 0).tolist()
        == first.tolist()
        != indices_of(Draw(TRAINING, 64, 0), 100, 1).tolist()
    )
    halves = [set(indices_of(Draw(HALVES, 50, number), 100, 0)) for number in (0, 1)]
    assert [len(half) for half in halves] == [50, 50] and not halves[0] & halves[1]
    assert sorted(indices_of(Draw("few", 64, 0), 10, 0)) == list(range(10))


@pytest.mark.parametrize(("count", "options"), [(1, {}), (10, {"draws": 1}), (10, {"most": 0})], ids=str)
def test_too_little_for_an_audit_is_refused(count, options):
    with pytest.raises(ValueError, match="an audit needs 2 training samples, `most` of 1 and `draws` of 2 or more"):
        plan_draws(count, **options)


def audit(scores):
    """The audit of scores of two draws, by number of samples."""
    plan = plan_draws(8, draws=2)
    values = {draw.key: scores[draw.samples][draw.number] for draw in plan if draw.source == TRAINING}
    return audit_of(plan, {**{draw.key: 0.5 for draw in plan}, **values})


def test_needed_are_the_samples_from_which_on_the_worst_draw_is_good_enough():
    found = audit({1: (0.2, 0.4), 2: (0.9, 0.9), 4: (0.8, 0.9), 8: (0.9, 0.9)})
    assert found.points[0] == Scores(1, (0.2, 0.4)) and found.points[0].worst(1) == 0.2
    assert found.halves == Scores(4, (0.5, 0.5))
    assert found.needed(0.05, 1) == 8, "at 4 the worst draw is 0.1 below, though at 2 it was not"
    assert found.needed(0.2, 1) == 2
    assert found.needed(1.0, 1) == 1


def test_where_lower_is_better_the_worst_draw_is_the_highest():
    found = audit({1: (0.9, 0.1), 2: (0.1, 0.1), 4: (0.1, 0.1), 8: (0.1, 0.1)})
    assert found.points[0].worst(-1) == 0.9
    assert found.needed(0.05, -1) == 2


def test_where_the_largest_number_has_a_bad_draw_none_is_enough():
    assert audit({1: (0.9, 0.9), 2: (0.9, 0.9), 4: (0.9, 0.9), 8: (0.5, 0.9)}).needed(0.1, 1) is None
