"""Buckets: batches of examples of similar length, cut to one of a few lengths, so that short examples cost less."""

from dataclasses import dataclass

import numpy as np

from qat.data.source import Example, Source, gather

SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Buckets:
    """The lengths `sizes`, ascending, to which the axis 1 of a batch's `fields` is cut; the last is the full one.

    Of an example of n parts, the first n of the field `mask` are true.
    """

    sizes: tuple[int, ...]
    fields: tuple[str, ...] = ("tokens", "mask")
    mask: str = "mask"

    def __post_init__(self):
        if not self.sizes or min(self.sizes) < 1 or list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"`sizes` must be lengths in ascending order, at least one, got {self.sizes}.")

    @property
    def longest(self) -> int:
        """The length of a batch that is not cut."""
        return self.sizes[-1]

    def of_batch(self, batch: Example) -> np.ndarray:
        """The place in `sizes` of the shortest bucket that each example of a batch fits, int[batch]."""
        return np.searchsorted(self.sizes, batch[self.mask].sum(1))

    def of(self, source: Source) -> np.ndarray:
        """The bucket of every example of a source, all of which are read."""
        return self.of_batch(gather(source, range(len(source))))

    def cut(self, batch: Example) -> Example:
        """The batch with `fields` cut to the bucket of its longest example."""
        length = self.sizes[self.of_batch(batch).max()]
        return {name: array[:, :length] if name in self.fields else array for name, array in batch.items()}

    def full(self, batch: Example) -> Example:
        """The batch with `fields` filled with zeros to the full length: of what the mask shows the inverse of `cut`.

        Raises `ValueError` where they are not of one length, and that a bucket's.
        """
        lengths = {name: np.shape(batch[name])[1] for name in self.fields}
        if len(set(lengths.values())) != 1 or not set(lengths.values()) <= set(self.sizes):
            raise ValueError(f"axis 1 of {self.fields} must have one of the lengths {self.sizes}, got {lengths}.")

        def filled(array: np.ndarray) -> np.ndarray:
            rest = [(0, 0)] * (np.ndim(array) - 2)
            return np.pad(array, [(0, 0), (0, self.longest - array.shape[1]), *rest])

        return {name: filled(array) if name in self.fields else array for name, array in batch.items()}


def buckets_up_to(length: int, sizes: tuple[int, ...] | None = None) -> Buckets | None:
    """Buckets for examples of at most `length` parts, or None where `sizes` are none, `()`.

    Of the sizes, by default `SIZES`, those below `length` are taken, and `length` itself.
    """
    chosen = SIZES if sizes is None else sizes
    if not chosen:
        return None
    return Buckets((*(size for size in sorted(set(chosen)) if size < length), length))
