"""Audits of calibration: draws of samples, and the number of samples that their scores show to be enough.

Calibration sees few samples, and which ones is chance. An audit calibrates one model on several draws of 1, 2, 4, ...
samples and scores each result, compares two disjoint subsets, and calibrates on samples that are not of the data at
all. Scores are those of a task on validation data; nothing here measures them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

TRAINING, HALVES, NOISE = "training", "halves", "noise"


@dataclass(frozen=True)
class Draw:
    """One draw: so many `samples` of a source, `training`, `halves` (two disjoint subsets of it), `noise` or the name
    of other data; `number` tells draws of one kind apart, from 0."""

    source: str
    samples: int
    number: int

    @property
    def key(self) -> str:
        """A name that no other draw of an audit has."""
        return f"{self.source}/{self.samples}/{self.number}"


def plan_draws(count: int, *, most: int = 2048, draws: int = 5, others: Sequence[str] = ()) -> tuple[Draw, ...]:
    """The draws of an audit on `count` training samples: `draws` of each power of two up to `most` or as many samples
    as there are, two disjoint subsets as large as can be, and `draws` of each other source at the largest number.

    Raises `ValueError` for fewer than 2 samples, 2 draws, or a `most` below 1.
    """
    if count < 2 or most < 1 or draws < 2:
        raise ValueError(
            f"an audit needs 2 training samples, `most` of 1 and `draws` of 2 or more, got {count}, {most} and "
            f"{draws}: of one draw no spread can be told."
        )
    numbers = [2**power for power in range(min(count, most).bit_length())]
    half = max(number for number in numbers if number <= count // 2)
    return (
        *(Draw(TRAINING, samples, number) for samples in numbers for number in range(draws)),
        *(Draw(HALVES, half, number) for number in (0, 1)),
        *(Draw(source, numbers[-1], number) for source in others for number in range(draws)),
    )


def indices_of(draw: Draw, count: int, seed: int) -> np.ndarray:
    """The samples of a draw, distinct indices below `count`: all where there are no more than it asks for."""
    if draw.source == HALVES:
        order = np.random.default_rng((seed, draw.samples)).permutation(count)
        return order[draw.number * draw.samples : (draw.number + 1) * draw.samples]
    order = np.random.default_rng((seed, draw.samples, draw.number)).permutation(count)
    return order[: draw.samples]


@dataclass(frozen=True)
class Scores:
    """Scores after calibration on so many samples, one of each draw."""

    samples: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over the draws."""
        return float(np.mean(self.values))

    def worst(self, sign: int) -> float:
        """The score of the worst draw; `sign` is 1 where higher scores are better, else -1."""
        return sign * min(sign * value for value in self.values)


@dataclass(frozen=True)
class Audit:
    """The scores of an audit: `points` by the number of samples, rising, `halves` of two disjoint subsets, `others` by
    the name of what was no data of the model."""

    points: tuple[Scores, ...]
    halves: Scores
    others: Mapping[str, Scores]

    def needed(self, margin: float, sign: int) -> int | None:
        """The number of samples from which on the worst draw is at most `margin` worse than the mean of the largest
        number; None where even there it is worse."""
        reference, enough = sign * self.points[-1].mean, None
        for point in reversed(self.points):
            if reference - sign * point.worst(sign) > margin:
                break
            enough = point.samples
        return enough


def audit_of(draws: Sequence[Draw], values: Mapping[str, float]) -> Audit:
    """The audit of planned draws and the score of each, by its key."""

    def scores(source: str, samples: int) -> Scores:
        chosen = [draw for draw in draws if (draw.source, draw.samples) == (source, samples)]
        return Scores(samples, tuple(values[draw.key] for draw in chosen))

    numbers = {source: sorted({d.samples for d in draws if d.source == source}) for source in [d.source for d in draws]}
    others = [source for source in numbers if source not in (TRAINING, HALVES)]
    return Audit(
        tuple(scores(TRAINING, samples) for samples in numbers[TRAINING]),
        scores(HALVES, numbers[HALVES][0]),
        {source: scores(source, numbers[source][0]) for source in others},
    )
