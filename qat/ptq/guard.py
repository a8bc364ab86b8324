"""The fewest layers to return to more bits so that a limit on the drop is met, found by bisection."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Validation:
    """A full validation with the first `returned` of the ranked layers returned to more bits: the drop against float,
    and the upper end of its one-sided interval."""

    returned: int
    drop: float
    upper: float


@dataclass(frozen=True)
class Guarded:
    """The validations in their order, and that one whose layers are returned; None where no validation met the limit,
    the one of all layers included."""

    validations: tuple[Validation, ...]
    chosen: Validation | None


def guard(layers: int, validate: Callable[[int], Validation], limit: float) -> Guarded:
    """Return as few of the ranked layers as a bisection finds, such that the upper end of the drop is below `limit`.

    `validate(n)` measures with the first n of `layers` returned. None is tried first; then the bisection looks for a
    number that meets the limit next to one that does not, "not even all" being one of the answers: at most
    log2(layers) + 2 validations. The chosen number was validated itself, whether or not the drop falls steadily.
    """
    done: dict[int, Validation] = {}

    def meets(returned: int) -> bool:
        done[returned] = validate(returned)
        return done[returned].upper < limit

    if meets(0):
        return Guarded(tuple(done.values()), done[0])
    fails, holds = 0, layers + 1  # of these the first does not meet the limit; the last is that not even all do
    while holds - fails > 1:
        middle = (fails + holds) // 2
        fails, holds = (fails, middle) if meets(middle) else (middle, holds)
    return Guarded(tuple(done.values()), done.get(holds))
