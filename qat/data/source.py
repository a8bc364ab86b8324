"""Sources: examples by index, as dicts of numpy arrays."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

type Example = dict[str, np.ndarray]


class Source(Protocol):
    """`len(source)` examples; `source[i]` is the same one whenever it is asked for, a dict of arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class Gathering(Protocol):
    """A source that gives many examples at once, stacked along a new axis 0, faster than one by one."""

    def gather(self, indices: Sequence[int] | np.ndarray, /) -> Example:
        """The examples at `indices`."""
        ...


@dataclass(frozen=True)
class Columns:
    """A source over arrays in memory, one per field, examples along axis 0."""

    arrays: Mapping[str, np.ndarray]

    def __post_init__(self):
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"`arrays` must be of one length, at least one array, got {lengths}.")

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> Example:
        return {name: array[index] for name, array in self.arrays.items()}

    def gather(self, indices: Sequence[int] | np.ndarray) -> Example:
        """The examples at `indices`, stacked."""
        return {name: array[np.asarray(indices)] for name, array in self.arrays.items()}


@dataclass(frozen=True)
class InMemory:
    """`source`, read and decoded once, at first use. For sets that fit in memory."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        return self.columns[index]

    def gather(self, indices: Sequence[int] | np.ndarray) -> Example:
        """The examples at `indices`, stacked."""
        return self.columns.gather(indices)

    @cached_property
    def columns(self) -> Columns:
        """The columns that were read."""
        return Columns(gather(self.source, range(len(self.source))))


def columns_of(source: Source) -> Mapping[str, np.ndarray] | None:
    """The arrays of a source that is in memory; None of any other."""
    columns = source.columns if isinstance(source, InMemory) else source
    return columns.arrays if isinstance(columns, Columns) else None


def gather(source: Source, indices: Sequence[int] | np.ndarray) -> Example:
    """The examples at `indices`, stacked along a new axis 0."""
    if isinstance(source, Gathering):
        return source.gather(indices)
    examples = [source[int(i)] for i in indices]
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def fingerprint(*parts: bytes | str | np.ndarray) -> str:
    """A digest of the parts, 16 hexadecimal digits; of arrays, dtype and shape count too."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
        data = np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else part
        digest.update(data.encode() if isinstance(data, str) else data)
        digest.update(b"|")
    return digest.hexdigest()[:16]
