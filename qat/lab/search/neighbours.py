"""A point of a space near another one: new, and within the budget."""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from random import Random

from qat.lab.sweep.space import Choice, Range, key_of

type Values = Mapping[str, Choice]
type Space = Mapping[str, Range | Sequence[Choice]]

STEPS = 100  # of a walk over points that are known
SAMPLES = 4  # of a range, as neighbours of one of its numbers
SMALL = 5000  # the most points of a space that is gone through as a whole


def instead(
    values: Values, space: Space, over: Callable[[Values], float], seen: Collection[str], rng: Random
) -> Values | None:
    """A point near `values` that is not in `seen` and breaks no budget; None where the space holds none, or where a
    long walk over a large one met none.

    `over` says by how much a point breaks the budget, 0 where it does not.
    """
    start = _within(values, space, over, rng)
    near = None if start is None else _walk(start, space, over, seen, rng)
    if near is not None:
        return near
    return next((point for point in _all(space, rng) if key_of(point) not in seen and not over(point)), None)


def _walk(
    values: Values, space: Space, over: Callable[[Values], float], seen: Collection[str], rng: Random
) -> Values | None:
    """Along points within the budget to the first that is not in `seen`."""
    for _ in range(STEPS):
        near = [point for point in _neighbours(values, space, rng) if not over(point)]
        fresh = [point for point in near if key_of(point) not in seen]
        if fresh:
            return rng.choice(fresh)
        if not near:
            return None
        values = rng.choice(near)
    return None


def _within(values: Values, space: Space, over: Callable[[Values], float], rng: Random) -> Values | None:
    """Down to the budget by changes of one parameter at a time, each of which comes nearer to it."""
    excess = over(values)
    while excess:
        near = list(_neighbours(values, space, rng))
        rng.shuffle(near)
        better = next(((point, found) for point in near if (found := over(point)) < excess), None)
        if better is None:
            return None
        values, excess = better
    return values


def _neighbours(values: Values, space: Space, rng: Random) -> Iterator[Values]:
    for name, choices in space.items():
        options = [_draw(choices, rng) for _ in range(SAMPLES)] if isinstance(choices, Range) else choices
        yield from ({**values, name: value} for value in options if value != values[name])


def _draw(numbers: Range, rng: Random) -> int | float:
    """A number of the range."""
    low, high = numbers.low, numbers.high
    if numbers.step:
        return low + numbers.step * rng.randint(0, int((high - low) / numbers.step + 1e-9))
    if numbers.log:
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
        return round(value) if numbers.whole else min(max(value, low), high)
    return rng.randint(int(low), int(high)) if numbers.whole else rng.uniform(low, high)


def _all(space: Space, rng: Random) -> Iterator[Values]:
    """Every point of a small space of choices, in any order."""
    lists = [values for values in space.values() if not isinstance(values, Range)]
    if len(lists) < len(space) or math.prod(map(len, lists)) > SMALL:
        return
    points = [dict(zip(space, point, strict=True)) for point in itertools.product(*lists)]
    rng.shuffle(points)
    yield from points
