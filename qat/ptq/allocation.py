"""Bits for each layer within a budget: measured losses, an integer program, and no result below the uniform recipe."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from qat.core.state import QuantState
from qat.ptq.budget import UNITS, Budget
from qat.ptq.groups import Choice, Group, Width
from qat.ptq.integer_program import Pick, smallest, solve, total
from qat.ptq.sensitivity import Batch, Change, Setup, measure
from qat.recipes.recipe import QuantRecipe

OFF = 0.1  # of the predicted change: a larger error of the sum has pairs measured
MOST_PAIRED = 6  # groups whose pairs are measured in a round


@dataclass(frozen=True)
class Point:
    """Choices of all groups with their cost, the predicted change of the loss and the loss of each held-out batch."""

    choices: tuple[Choice, ...]
    cost: float
    predicted: float
    losses: tuple[float, ...]

    @property
    def loss(self) -> float:
        """The mean loss on held-out batches."""
        return float(np.mean(self.losses))


@dataclass(frozen=True)
class Allocation:
    """The bits that were chosen, as a recipe and its state, and the way there.

    `uniform` is the best recipe with equal bits in all layers, or the starting one, within the budget; None where none
    is. Where no choice of the program beats it on held-out batches it is what is returned, and `is_uniform` is true.
    `front` are the choices at further budgets, cheapest first, none dearer without a smaller held-out loss; `pairs`
    counts those that were measured since the sum of single changes was off.
    """

    recipe: QuantRecipe
    state: QuantState
    budget: Budget
    limit: float
    groups: tuple[Group, ...]
    chosen: Point
    uniform: Point | None
    is_uniform: bool
    front: tuple[Point, ...]
    pairs: int

    def to_data(self) -> dict[str, Any]:
        """Plain values on it, less recipe and state, to be written as JSON."""

        def point(one: Point | None) -> dict[str, Any] | None:
            if one is None:
                return None
            named = {group.name: name_of(choice) for group, choice in zip(self.groups, one.choices, strict=True)}
            return {"cost": one.cost, "predicted": one.predicted, "loss": one.loss, "bits": named}

        return {
            "budget": self.budget.kind,
            "unit": UNITS[self.budget.kind],
            "limit": self.limit,
            "is_uniform": self.is_uniform,
            "pairs": self.pairs,
            "chosen": point(self.chosen),
            "uniform": point(self.uniform),
            "front": [point(one) for one in self.front],
        }


def name_of(choice: Choice) -> str:
    """A choice as tables show it: `w4a8`, or `float`."""
    return "float" if choice is None else str(choice)


def allocate(
    setup: Setup, budget: Budget, held_out: Sequence[Batch], *, in_float: bool = True, points: int = 8, rounds: int = 3
) -> Allocation:
    """The widths of all groups with the least loss within a budget, as HAWQ-V3 (Yao et al. 2021, arXiv 2011.10680)
    chooses them, but on measured losses.

    First the changes of single groups count as they add up, smoothed so that more bits are never worse. Where the loss
    of the choice is off by more than a tenth, pairs of the groups that changed most are measured and enter the program,
    up to `rounds` times. All candidates, and the uniform recipes within the budget, are then compared on `held_out`
    batches, which were part of no choice. `points` are the budgets of the front. Sites that share a weight or an
    activation have the same bits. Cost: `measure`, and two passes for each pair and point. Raises `ValueError` for a
    budget that no choice meets, naming the smallest possible.
    """
    if not held_out:
        raise ValueError("`held_out` must hold a batch or more: those that choices are compared on.")
    choices = [budget.choices(group, setup.widths, in_float) for group in setup.groups]
    limit = budget.of(setup.groups, choices)
    if all(None in own for own in choices) and budget.total(setup.groups, [None] * len(choices)) <= limit:
        raise ValueError("`budget` is as large as the float model is: nothing would be quantized. Lower it.")
    program = _Program.of(setup, choices, budget, measure(setup))
    candidates = [program.best(limit)]
    for _ in range(rounds):
        if not program.correct(setup, candidates[-1]):
            break
        candidates.append(program.best(limit))

    def measured(taken: Iterable[Sequence[int]]) -> list[Point]:
        return [program.point(setup, one, held_out) for one in dict.fromkeys(tuple(one) for one in taken)]

    costs = np.geomspace(max(smallest(program.costs), 1e-12), max(map(program.cost, _extremes(program))), points)
    found = measured([*candidates, *(program.best(cost * (1 + 1e-9)) for cost in costs)])
    own = min((one for one in found if one.cost <= limit), key=lambda point: point.loss)
    uniforms = measured(program.uniform(setup))
    uniform = min((one for one in uniforms if one.cost <= limit), key=lambda point: point.loss, default=None)
    is_uniform = uniform is not None and uniform.loss <= own.loss
    chosen = uniform if uniform is not None and is_uniform else own
    return Allocation(
        recipe=setup.recipe(chosen.choices),
        state=setup.state(chosen.choices),
        budget=budget,
        limit=limit,
        groups=setup.groups,
        chosen=chosen,
        uniform=uniform,
        is_uniform=is_uniform,
        front=pareto([*found, *uniforms]),
        pairs=len(program.pairs),
    )


def pareto(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats in cost and loss, cheapest first."""
    best, kept = np.inf, []
    for point in sorted(points, key=lambda one: (one.cost, one.loss)):
        if point.loss < best:
            kept.append(point)
            best = point.loss
    return tuple(kept)


@dataclass
class _Program:
    """The changes of the loss and the costs of every choice of every group, and of the pairs measured so far."""

    choices: list[list[Choice]]
    losses: list[list[float]]
    costs: list[list[float]]
    pairs: dict[tuple[Pick, Pick], float]

    @classmethod
    def of(cls, setup: Setup, choices: list[list[Choice]], budget: Budget, changes: Sequence[Change]) -> "_Program":
        losses = [_losses(group, own, changes) for group, own in zip(setup.groups, choices, strict=True)]
        costs = [[budget.cost(group, one) for one in own] for group, own in zip(setup.groups, choices, strict=True)]
        return cls(choices, losses, costs, {})

    def best(self, limit: float) -> list[int]:
        return solve(self.losses, self.costs, limit, self.pairs)

    def cost(self, taken: Sequence[int]) -> float:
        return sum(self.costs[i][c] for i, c in enumerate(taken))

    def widths(self, taken: Sequence[int]) -> tuple[Choice, ...]:
        return tuple(self.choices[i][c] for i, c in enumerate(taken))

    def point(self, setup: Setup, taken: Sequence[int], batches: Sequence[Batch]) -> Point:
        widths = self.widths(taken)
        losses = tuple(setup.losses(widths, batches).tolist())
        return Point(widths, self.cost(taken), total(self.losses, taken, self.pairs), losses)

    def uniform(self, setup: Setup) -> list[list[int]]:
        """The recipe's own widths, and equal ones in all groups that are not fixed."""
        found = [list(setup.own)]
        for bits in setup.widths:
            wanted = (Width(one.weights and bits, one.activations and bits) for one in setup.own)
            found.append([g.own if g.fixed else one for g, one in zip(setup.groups, wanted, strict=True)])
        return [
            [own.index(one) for own, one in zip(self.choices, widths, strict=True)]
            for widths in found
            if all(one in own for own, one in zip(self.choices, widths, strict=True))
        ]

    def correct(self, setup: Setup, taken: Sequence[int]) -> bool:
        """Measure pairs of a choice whose loss is mispredicted; whether there was any to measure.

        What pairs add is scaled so that the loss of this very choice comes out right: of many changes at once the
        pairs alone would overshoot.
        """
        start = float(setup.losses(setup.own).mean())
        change = float(setup.losses(self.widths(taken)).mean()) - start
        off = change - total(self.losses, taken, self.pairs)
        moved = [i for i, c in enumerate(taken) if self.choices[i][c] != setup.own[i]]
        moved = sorted(moved, key=lambda i: -abs(self.losses[i][taken[i]]))[:MOST_PAIRED]
        new = [((i, taken[i]), (j, taken[j])) for i, j in itertools.combinations(sorted(moved), 2)]
        new = [pair for pair in new if pair not in self.pairs]
        if abs(off) <= OFF * max(abs(change), abs(start) * OFF) or not new:
            return False
        found = []
        for (i, a), (j, b) in new:
            widths: list[Choice] = [*setup.own]
            widths[i], widths[j] = self.choices[i][a], self.choices[j][b]
            joint = float(setup.losses(widths).mean()) - start
            found.append(joint - self.losses[i][a] - self.losses[j][b])
        scale = off / sum(found) if abs(sum(found)) > abs(off) / 10 else 0.0
        even = off / len(new)  # where the pairs say nothing of what is off, all have an equal part in it
        self.pairs |= {pair: scale * one if scale > 0 else even for pair, one in zip(new, found, strict=True)}
        return True


def _extremes(program: _Program) -> list[list[int]]:
    """The dearest choice of every group."""
    return [[int(np.argmax(own)) for own in program.costs]]


def _losses(group: Group, choices: Sequence[Choice], changes: Sequence[Change]) -> list[float]:
    """The change of the loss at each choice of a group: those of its two sides added, or that of float."""
    own = [change for change in changes if change.group == group]
    sides = {side: _smoothed(side, group, own) for side in ("weights", "activations")}
    floats = [change.mean for change in own if change.side == "float"]

    def loss(choice: Choice) -> float:
        if choice is None:
            return floats[0]
        return sum(sides[side].get(getattr(choice, side), 0.0) for side in sides)

    return [loss(choice) for choice in choices]


def _smoothed(side: str, group: Group, changes: Sequence[Change]) -> dict[int, float]:
    """The changes by bits, fitted so that more bits are never worse; that of the group's own bits is none."""
    now = getattr(group.own, side)
    known = {change.bits: change.mean for change in changes if change.side == side and change.bits is not None}
    if now is None or not known:
        return {} if now is None else {now: 0.0}
    bits = sorted({*known, now})
    fitted = isotonic_regression([known.get(b, 0.0) for b in bits], increasing=False).x
    return {b: float(value) for b, value in zip(bits, fitted - fitted[bits.index(now)], strict=True)}
