"""The guard returns the fewest layers that meet its limit, by bisection."""

import math

import pytest

from qat.ptq.guard import Validation, guard


def evaluated(uppers):
    """A validation of synthetic upper ends by the number of layers returned, and the numbers asked for."""
    asked = []

    def validate(returned):
        asked.append(returned)
        return Validation(returned, uppers[returned] - 0.1, uppers[returned])

    return validate, asked


@pytest.mark.parametrize("layers", [1, 2, 3, 7, 8, 17, 30, 64])
def test_of_a_falling_drop_the_fewest_layers_are_found_in_few_validations(layers):
    for needed in range(layers + 2):
        validate, asked = evaluated([1.0 if n < needed else 0.2 for n in range(layers + 1)])
        found = guard(layers, validate, 0.5)
        assert (found.chosen.returned if found.chosen else layers + 1) == needed
        assert [one.returned for one in found.validations] == asked and len(set(asked)) == len(asked)
        assert len(asked) <= math.log2(layers) + 2


def test_of_a_drop_that_rises_and_falls_the_chosen_number_was_validated_itself():
    uppers = [0.9, 0.4, 0.8, 0.3, 0.9, 0.45, 0.7, 0.2, 0.6]
    validate, asked = evaluated(uppers)
    found = guard(8, validate, 0.5)
    assert found.chosen is not None and found.chosen.returned in asked and found.chosen.upper < 0.5
    assert uppers[found.chosen.returned - 1] >= 0.5 and found.chosen.returned - 1 in asked


def test_a_limit_is_met_only_below_it():
    validate, _ = evaluated([0.5, 0.5])
    assert guard(1, validate, 0.5).chosen is None
