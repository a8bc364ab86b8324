"""The power of the tests over seeds, and the seeds that they need."""

import numpy as np
import pytest

from qat.lab.stats import compare_seeds, equivalence
from qat.lab.stats.power import power_of_difference, power_of_equivalence, seeds_for

DRAWS = 1_000  # the standard error of a share is below 0.016


@pytest.mark.parametrize(("seeds", "expected"), [(3, 0.05), (4, 0.14), (6, 0.46), (10, 0.92)])
def test_power_of_a_difference_of_0_5_at_a_spread_of_0_3_among_8_comparisons(seeds, expected):
    assert power_of_difference(seeds, 0.5, 0.3, comparisons=8) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("seeds", [3, 6])
def test_power_is_the_share_of_simulated_studies_that_show_it(seeds):
    samples = np.random.default_rng(0).normal(0.2, 0.3, (DRAWS, seeds))
    zero = [0.0] * seeds
    shown = [compare_seeds(one, zero) for one in samples.tolist()]
    better = np.mean([one.kind == "better" for one in shown])
    assert better == pytest.approx(power_of_difference(seeds, 0.2, 0.3), abs=0.04)
    p = [equivalence(one, zero, 0.4).p_value or 0.0 for one in samples.tolist()]
    within = power_of_equivalence(seeds, 0.4, 0.3, difference=0.2)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(within, abs=0.04)


def test_the_seeds_needed_are_the_least_that_reach_the_power():
    def of(n):
        return power_of_difference(n, 0.5, 0.3, comparisons=4)

    needed = seeds_for(of)
    assert needed is not None and of(needed) >= 0.8 > of(needed - 1)
    assert seeds_for(lambda n: power_of_equivalence(n, 0.3, 0.3)) == 11
    assert seeds_for(lambda n: power_of_difference(n, 1.0, 0.01)) == 2
    assert seeds_for(lambda n: power_of_difference(n, 0.001, 0.3)) is None


def test_what_has_no_power_is_refused():
    for seeds, sd, comparisons, named in ((1, 0.3, 1, "seeds"), (3, 0.0, 1, "sd"), (3, 0.3, 0, "comparisons")):
        with pytest.raises(ValueError, match=f"`{named}` must be"):
            power_of_difference(seeds, 0.5, sd, comparisons)
