"""The numbers of each step, computed on the host, so that they reach the compiled step as data."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from qat.registry import Registry

type Schedule = Callable[[float], float]

schedules: Registry[Schedule] = Registry("schedule")


@schedules.register
def cosine(end: float = 0.0) -> Schedule:
    """Half a cosine from 1 at progress 0 to `end` at progress 1 (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    return lambda progress: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


@schedules.register
def linear(end: float = 0.0) -> Schedule:
    """A straight line from 1 at progress 0 to `end` at progress 1."""
    return lambda progress: 1 - (1 - end) * progress


@schedules.register
def constant() -> Schedule:
    """1 at any progress."""
    return lambda _progress: 1.0


class Hyper(NamedTuple):
    """Scalars of fixed dtype, numpy's here and tracers in the step: no value of them compiles another program."""

    step: Any
    seed: Any
    learning_rate: Any
    weight_decay: Any
    clip_norm: Any
    ema_decay: Any


def warmed_up(schedule: Schedule, warmup_steps: int, steps: int) -> Callable[[int], float]:
    """The factor of each step: `1/warmup_steps` at step 0, 1 once warmed up, then `schedule` to the end."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return schedule((step - warmup_steps) / (steps - warmup_steps))

    return factor


def ramped(decay: float, step: int) -> float:
    """`decay`, but less in the first steps, so that an average soon forgets where training started."""
    return min(decay, (1 + step) / (10 + step))
