"""One choice for each group, of least loss within a budget: an integer program."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import coo_array

type Pick = tuple[int, int]
"""A group and one of its choices, by their places."""
type Pairs = Mapping[tuple[Pick, Pick], float]
"""What two choices of different groups add to the loss together, beyond what each adds."""


def smallest(costs: Sequence[Sequence[float]]) -> float:
    """The least that all groups together can cost."""
    return float(sum(min(own) for own in costs))


def solve(
    losses: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], budget: float, pairs: Pairs | None = None
) -> list[int]:
    """The place of the choice of each group, so that the sum of losses, those of pairs included, is least and the sum
    of costs at most `budget`.

    A pair is one more variable, bounded to be one where both of its choices are taken and zero elsewhere. Raises
    `ValueError` where even the smallest choices cost more than the budget.
    """
    least = smallest(costs)
    if least > budget:
        raise ValueError(f"`budget` of {budget:g} is below the smallest possible, {least:g}.")
    kept = [_undominated(*own) for own in _by_group(losses, costs, pairs or {})]
    places = [(i, c) for i, own in enumerate(kept) for c in own]
    column = {place: number for number, place in enumerate(places)}
    joint = [(a, b, loss) for (a, b), loss in (pairs or {}).items() if a in column and b in column]
    n = len(places) + len(joint)
    objective = np.asarray([losses[i][c] for i, c in places] + [loss for _, _, loss in joint])
    rows: list[tuple[dict[int, float], float, float]] = []
    for i, own in enumerate(kept):
        rows.append(({column[i, c]: 1.0 for c in own}, 1.0, 1.0))
    scale = max(abs(budget), 1e-30)
    rows.append(({column[place]: costs[place[0]][place[1]] / scale for place in places}, -np.inf, budget / scale))
    for number, (a, b, _) in enumerate(joint, len(places)):
        rows.append(({number: 1.0, column[a]: -1.0}, -np.inf, 0.0))
        rows.append(({number: 1.0, column[b]: -1.0}, -np.inf, 0.0))
        rows.append(({column[a]: 1.0, column[b]: 1.0, number: -1.0}, -np.inf, 1.0))
    size = float(np.abs(objective).max()) or 1.0
    found = milp(
        objective / size,
        constraints=LinearConstraint(_matrix([row for row, _, _ in rows], n), *np.transpose([r[1:] for r in rows])),
        integrality=np.asarray([1] * len(places) + [0] * len(joint)),
        bounds=(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise ValueError(f"`losses` must be finite numbers; the integer program has no solution ({found.message}).")
    taken = {i: c for (i, c), value in zip(places, found.x, strict=False) if value > 0.5}
    return [taken[i] for i in range(len(kept))]


def total(losses: Sequence[Sequence[float]], taken: Sequence[int], pairs: Pairs | None = None) -> float:
    """The sum of losses of these choices, pairs included."""
    alone = sum(losses[i][c] for i, c in enumerate(taken))
    return alone + sum(loss for (a, b), loss in (pairs or {}).items() if taken[a[0]] == a[1] and taken[b[0]] == b[1])


def _by_group(losses: Sequence[Sequence[float]], costs: Sequence[Sequence[float]], pairs: Pairs):
    """Losses, costs and the choices that stand in a pair, of each group."""
    paired = {pick for two in pairs for pick in two}
    for i, (own, cost) in enumerate(zip(losses, costs, strict=True)):
        yield own, cost, {c for c in range(len(own)) if (i, c) in paired}


def _undominated(losses: Sequence[float], costs: Sequence[float], paired: set[int]) -> list[int]:
    """The choices that no other beats in both, the cheapest of equal ones; and, as their loss may still move, those in
    pairs, because of which none is then left out."""
    if paired:
        return list(range(len(losses)))
    best, kept = np.inf, []
    for c in sorted(range(len(losses)), key=lambda c: (costs[c], losses[c])):
        if losses[c] < best:
            kept.append(c)
            best = losses[c]
    return kept


def _matrix(rows: Sequence[Mapping[int, float]], columns: int):
    entries = [(i, j, value) for i, row in enumerate(rows) for j, value in row.items()]
    i, j, values = (np.asarray(part) for part in zip(*entries, strict=True))
    return coo_array((values, (i, j)), shape=(len(rows), columns)).tocsc()
