"""In place of a point that cannot be run, one near it that can."""

import itertools
from random import Random

import pytest

from qat.lab.search.neighbours import instead
from qat.lab.sweep.space import Range, key_of

LAYERS = [f"bits:{i}" for i in range(4)]
SPACE = {layer: [2, 3, 4, 8] for layer in LAYERS}
ALL = [dict(zip(LAYERS, point, strict=True)) for point in itertools.product([2, 3, 4, 8], repeat=4)]
MOST = dict.fromkeys(LAYERS, 8)


def over(limit):
    """By how much the sum of the bits is beyond a limit."""
    return lambda values: max(0.0, sum(values.values()) / limit - 1)


@pytest.mark.parametrize("limit", [8, 10, 13, 20])
def test_every_point_within_the_budget_is_found_once_and_then_none(limit):
    able, seen = [point for point in ALL if not over(limit)(point)], set()
    for number in range(len(able)):
        found = instead(MOST, SPACE, over(limit), seen, Random(number))
        assert found is not None and not over(limit)(found)
        assert key_of(found) not in seen
        seen.add(key_of(found))
    assert instead(MOST, SPACE, over(limit), seen, Random(0)) is None


def test_a_known_point_gives_way_to_one_that_differs_in_one_parameter():
    for seed in range(20):
        found = instead(MOST, SPACE, over(100), {key_of(MOST)}, Random(seed))
        assert found is not None and sum(found[layer] != 8 for layer in LAYERS) == 1


def test_a_tight_budget_of_many_layers_is_reached_from_far_beyond_it():
    space = {f"bits:{i}": [2, 3, 4, 8] for i in range(60)}
    found = instead(dict.fromkeys(space, 8), space, over(122), set(), Random(0))
    assert found is not None and not over(122)(found)


def test_there_is_nothing_where_nothing_fits():
    assert instead(MOST, SPACE, over(7), set(), Random(0)) is None
    assert instead(MOST, SPACE, lambda values: 1e6, set(), Random(0)) is None


@pytest.mark.parametrize(
    ("numbers", "holds"),
    [
        (Range(low=1e-4, high=1e-1, log=True), lambda x: 1e-4 <= x <= 1e-1),
        (Range(low=1, high=1000, log=True), lambda x: type(x) is int and 1 <= x <= 1000),
        (Range(low=0.0, high=1.0, step=0.25), lambda x: x in (0.0, 0.25, 0.5, 0.75, 1.0)),
        (Range(low=10, high=30, step=10), lambda x: x in (10, 20, 30)),
        (Range(low=-1.0, high=1.0), lambda x: -1 <= x <= 1),
    ],
    ids=["log", "whole_log", "steps", "whole_steps", "plain"],
)
def test_numbers_of_a_range_stay_in_it(numbers, holds):
    for seed in range(30):
        found = instead(
            {"x": numbers.low}, {"x": numbers}, lambda values: 0.0, {key_of({"x": numbers.low})}, Random(seed)
        )
        assert found is not None and holds(found["x"])
