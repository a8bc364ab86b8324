"""The integer program finds what trying all choices finds."""

import itertools

import numpy as np
import pytest

from qat.ptq.integer_program import smallest, solve, total


def problem(seed, groups=4, choices=4, pairs=0):
    rng = np.random.default_rng(seed)
    losses = rng.normal(size=(groups, choices)).tolist()
    costs = rng.integers(1, 20, size=(groups, choices)).astype(float).tolist()
    found = {}
    while len(found) < pairs:
        i, j = sorted(rng.choice(groups, 2, replace=False).tolist())
        a, b = rng.integers(0, choices, 2).tolist()
        found[(i, a), (j, b)] = float(rng.normal())
    return losses, costs, found


def cost(costs, taken):
    return sum(own[c] for own, c in zip(costs, taken, strict=True))


@pytest.mark.parametrize("pairs", [0, 6])
@pytest.mark.parametrize("seed", range(6))
def test_no_choice_within_the_budget_has_less_loss(seed, pairs):
    losses, costs, joint = problem(seed, pairs=pairs)
    every = list(itertools.product(range(4), repeat=4))
    for budget in np.linspace(smallest(costs), sum(map(max, costs)), 5):
        taken = solve(losses, costs, budget, joint)
        assert cost(costs, taken) <= budget
        within = [one for one in every if cost(costs, one) <= budget]
        assert total(losses, taken, joint) == pytest.approx(min(total(losses, one, joint) for one in within))


def test_a_larger_budget_is_never_worse():
    losses, costs, joint = problem(9, groups=12, choices=6, pairs=10)
    budgets = np.linspace(smallest(costs), sum(map(max, costs)), 9)
    found = [total(losses, solve(losses, costs, budget, joint), joint) for budget in budgets]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(found))


def test_a_budget_below_the_smallest_is_refused_with_it():
    losses, costs, _ = problem(0)
    with pytest.raises(ValueError, match=f"below the smallest possible, {smallest(costs):g}"):
        solve(losses, costs, smallest(costs) - 0.5)
