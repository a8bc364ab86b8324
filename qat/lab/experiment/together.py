"""Trainings of several stages done as one: grouped by their program, bounded by memory, alone where that is no gain."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from qat.lab.jobs.machine import GB, available_memory
from qat.lab.jobs.run_one import Sharing
from qat.train import Fit, FitResult, fit_together
from qat.train.estimate import operations
from qat.train.together import reason_alone, size_of

type Tell = Callable[[str], None]

HEAVY = 3e9  # operations of a step that take a processor so long that Python's part, about a millisecond, is no matter
LANES = 8  # trainings of a call by map, on each device; one number for all, so that groups share what is compiled
SHARE = 0.5  # of the available memory, where no bound is given


def together(requests: Sequence[Fit], sharing: Sharing, tell: Tell) -> list[FitResult | Exception]:
    """Train all, those of one program as one; for each its result or its error. `tell` is told why some are alone."""
    found: dict[int, FitResult | Exception] = {}
    for members in _groups(requests).values():
        size = _size([requests[i] for i in members], sharing, tell)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            results = _trained([requests[i] for i in part], sharing, size)
            found.update(zip(part, results, strict=True))
    return [found[i] for i in range(len(requests))]


def _groups(requests: Sequence[Fit]) -> dict[Hashable, list[int]]:
    """The numbers of the requests by their program; one of no program is a group of its own."""
    groups: dict[Hashable, list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault(request.program or ("alone", number), []).append(number)
    return groups


def _size(fits: list[Fit], sharing: Sharing, tell: Tell) -> int:
    """The number of trainings of one program that are done as one."""
    first, count = fits[0], len(fits)
    if why := reason_alone(first) or _no_gain(first, sharing):
        tell(f"{count} trainings run one after the other: {why}.")
        return 1
    bound = sharing.memory_gb * GB if sharing.memory_gb else SHARE * available_memory()
    most = max(1, int(bound / size_of(first, sharing.chunk)))
    if most < count:
        tell(f"{count} trainings of one program run {most} at a time, which fit into {bound / GB:.1f} GB.")
    if count == 1:
        return 1
    # By map a call for a few costs no more than their steps, so that one size serves groups of any size.
    return min(most, LANES * jax.local_device_count() if sharing.how == "map" else count)


def _no_gain(fit: Fit, sharing: Sharing) -> str | None:
    """The reason why trainings of this program gain nothing from a common loop; None where they do."""
    if sharing.how != "map" or jax.default_backend() != "cpu":
        return None
    count = operations(fit)
    if count < HEAVY:
        return None
    return f"a step has {count / 1e9:.1f} billion operations, so that arithmetic takes the time"


def _trained(fits: list[Fit], sharing: Sharing, size: int) -> list[Any]:
    """The results of trainings of one program, which is compiled for so many, or their errors."""
    if size == 1:
        try:
            return [fits[0].alone()]
        except Exception as error:
            return [error]
    try:
        return list(fit_together(fits, sharing.how, chunk=sharing.chunk, size=size))
    except Exception as error:  # of the program that they share
        return [error] * len(fits)
