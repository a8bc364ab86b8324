"""From a source to batches: shuffled by step for training, in order for evaluation and calibration."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qat.data.buckets import Buckets
from qat.data.dataset import Augment
from qat.data.source import Example, Source, columns_of, gather


@dataclass(frozen=True)
class Batches:
    """Endless shuffled batches by step: `batches[step]` depends on source, `batch_size`, `seed` and step alone.

    Each epoch takes every example once, in an order drawn from `seed` and the epoch; a batch may end one epoch and
    begin the next, so that none is left out. `augment(batch, rng)` changes a batch, with randomness of its own step.
    With `buckets` the batches of an epoch are made of examples of one bucket, as far as their numbers allow, come in
    random order, and are cut to it; without, batches are of the full length.
    """

    source: Source
    batch_size: int
    seed: int
    augment: Augment | None = None
    buckets: Buckets | None = None

    def __post_init__(self):
        _check(self.source, self.batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every example comes once."""
        return len(self.source) / self.batch_size

    def places(self, step: int) -> np.ndarray:
        """The indices in the source of the examples of a step, in their order in the batch."""
        if step < 0:
            raise ValueError(f"`step` must be at least 0, got {step}.")
        first = step * self.batch_size
        parts, left = [], self.batch_size
        # Invariant: `left` examples from number `first` on are still to be placed; a turn takes those of one epoch.
        while left:
            epoch, place = divmod(first, len(self.source))
            parts.append(self._order(epoch)[place : place + left])
            first, left = first + len(parts[-1]), left - len(parts[-1])
        return np.concatenate(parts)

    @property
    def table(self) -> Mapping[str, np.ndarray] | None:
        """The arrays of which `places` gives the rows of every batch; None where batches are more than rows of arrays
        in memory: augmented, cut to buckets, or read when they are asked for."""
        if self.augment is not None or self.buckets is not None:
            return None
        return columns_of(self.source)

    def __getitem__(self, step: int) -> Example:
        batch = gather(self.source, self.places(step))
        if self.augment is not None:
            batch = self.augment(batch, np.random.default_rng((self.seed, 1, step)))
        return batch if self.buckets is None else self.buckets.cut(batch)

    @cached_property
    def _order(self) -> Callable[[int], np.ndarray]:
        """The order of an epoch, kept while its steps are asked for."""
        if self.buckets is None:
            return lambda epoch: _order(self.seed, epoch, len(self.source))
        bucket = self.buckets.of(self.source)

        def grouped(epoch: int) -> np.ndarray:
            order = _order(self.seed, epoch, len(bucket))
            rng = np.random.default_rng((self.seed, 2, epoch))
            return _grouped(order, bucket, self.batch_size, -epoch * len(bucket) % self.batch_size, rng)

        return functools.lru_cache(maxsize=2)(grouped)


def in_order(source: Source, batch_size: int) -> Iterator[Example]:
    """Every example once, in the source's order; the last batch may be shorter."""
    _check(source, batch_size)
    return (
        gather(source, range(start, min(start + batch_size, len(source))))
        for start in range(0, len(source), batch_size)
    )


def in_buckets(source: Source, batch_size: int, buckets: Buckets | None) -> tuple[np.ndarray, Iterator[Example]]:
    """Every example once, in batches of similar length cut to their bucket: the examples' indices in the order in which
    they come, and the batches. Only the last batch may be shorter. Without buckets the same as `in_order`.
    """
    if buckets is None:
        return np.arange(len(source)), in_order(source, batch_size)
    _check(source, batch_size)
    order = np.argsort(buckets.of(source), kind="stable")
    starts = range(0, len(source), batch_size)
    return order, (buckets.cut(gather(source, order[start : start + batch_size])) for start in starts)


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(size)


def _grouped(
    order: np.ndarray, bucket: np.ndarray, batch_size: int, first: int, rng: np.random.Generator
) -> np.ndarray:
    """An epoch's order with batches, which begin `first` examples in, of one bucket as far as may be; shuffled."""
    count = max(0, (len(order) - first) // batch_size)
    middle = order[first : first + count * batch_size]
    batches = middle[np.argsort(bucket[middle], kind="stable")].reshape(count, batch_size)
    return np.concatenate([order[:first], rng.permutation(batches).ravel(), order[first + count * batch_size :]])


def _check(source: Source, batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    if not len(source):
        raise ValueError("`source` must hold at least one example, got none. Is it the right split?")
