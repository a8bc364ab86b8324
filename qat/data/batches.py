"""From a source to batches: shuffled by step for training, in order for evaluation and calibration."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qat.data.source import Augment, Example, Source, gather


@dataclass(frozen=True)
class Batches:
    """Endless shuffled batches by step: `batches[step]` depends on source, `batch_size`, `seed` and step alone.

    Each epoch takes every example once, in an order drawn from `seed` and the epoch; a batch may end one epoch and
    begin the next, so that none is left out. `augment(batch, rng)` changes a batch, with randomness of its own step.
    """

    source: Source
    batch_size: int
    seed: int
    augment: Augment | None = None

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {self.batch_size}.")
        _check_filled(self.source)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every example comes once."""
        return len(self.source) / self.batch_size

    def __getitem__(self, step: int) -> Example:
        if step < 0:
            raise ValueError(f"`step` must be at least 0, got {step}.")
        size = len(self.source)
        epochs, places = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), size)
        orders = {epoch: _order(self.seed, int(epoch), size) for epoch in np.unique(epochs)}
        batch = gather(self.source, np.array([orders[e][place] for e, place in zip(epochs, places, strict=True)]))
        return batch if self.augment is None else self.augment(batch, np.random.default_rng((self.seed, 1, step)))


def in_order(source: Source, batch_size: int) -> Iterator[Example]:
    """Every example once, in the source's order; the last batch may be shorter."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    _check_filled(source)
    return (
        gather(source, range(start, min(start + batch_size, len(source))))
        for start in range(0, len(source), batch_size)
    )


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(size)


def _check_filled(source: Source) -> None:
    if not len(source):
        raise ValueError("`source` must hold at least one example, got none. Is it the right split?")
