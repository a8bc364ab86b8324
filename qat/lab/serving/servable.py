"""A model as a server sees it: how inputs are read, how a batch of them is computed, how a result is told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np


class Rejected(Exception):  # noqa: N818  # an answer, told to the client and nobody else
    """A request that is answered with an HTTP status and a message in the place of a result."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


MALFORMED, TOO_LARGE, OTHER_TYPE, OTHER_INPUT, FAILED = 400, 413, 415, 422, 500


@dataclass(frozen=True)
class Prepared:
    """One input ready to be computed: arrays without a batch axis, and for its answer the `factors` by which its image
    was shrunk and a `note` to the client. Inputs whose arrays have one `group` can share a batch."""

    arrays: tuple[np.ndarray, ...]
    factors: tuple[float, float] = (1.0, 1.0)
    note: Mapping[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the arrays."""
        return tuple(array.shape for array in self.arrays)


@dataclass(frozen=True)
class Form:
    """The way in and out of all models of one task on one kind of data.

    `media` are the content types of a request whose body is one input, which `raw(body)` reads; `entry` reads one of
    the `inputs` of a JSON request. Both raise `Rejected`. `answer(result, prepared)` is plain data; `differ(result,
    other)` is the share in [0, 1] of what two models found for one input on which they disagree. `samples` has an
    input of each group that there is.
    """

    task: str
    takes: str
    _: KW_ONLY
    media: frozenset[str]
    raw: Callable[[bytes], Prepared]
    entry: Callable[[Any], Prepared]
    answer: Callable[[Any, Prepared], dict[str, Any]]
    differ: Callable[[Any, Any], float]
    samples: tuple[Prepared, ...]


class Result(NamedTuple):
    """The rows that a model gave for one input, and the model's name."""

    row: Any
    model: str


@dataclass(frozen=True)
class Servable:
    """A model by its name. `compute` takes arrays with a batch axis, and returns a tree of arrays with the same one.

    It is called from any thread; a batch has one of the `sizes` that `batch_sizes` gives.
    """

    name: str
    form: Form
    compute: Callable[..., Any]
    sizes: tuple[int, ...]

    def run(self, batch: Sequence[Prepared]) -> list[Result]:
        """Compute a batch of inputs of one group, no more than the largest size, and split the result by input."""
        size = next(size for size in self.sizes if size >= len(batch))
        # The first input stands in for the missing ones: it widens no range, as zeros might where ranges are dynamic.
        filled = [*batch, *(batch[0] for _ in range(size - len(batch)))]
        columns = zip(*(one.arrays for one in filled), strict=True)
        out = jax.device_get(self.compute(*(np.stack(column) for column in columns)))
        return [Result(jax.tree.map(lambda array, i=i: array[i], out), self.name) for i in range(len(batch))]

    def warm_up(self) -> Iterator[str]:
        """Compile for each group and size, one at each step; each is told in words before it is done."""
        for sample in self.form.samples:
            for size in self.sizes:
                yield f"{self.name}: {size} x {' '.join(map(str, sample.group))}"
                self.run([sample] * size)


def batch_sizes(most: int) -> tuple[int, ...]:
    """Powers of two below `most`, and `most`: the sizes that batches are filled up to, each of which is compiled."""
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def numbers(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array that a JSON input holds. Raises `Rejected` where it is none of this shape and dtype."""
    try:
        found = np.asarray(value)
    except ValueError:
        raise Rejected(OTHER_INPUT, f"an input must be an array of shape {shape}; its rows are of several.") from None
    if found.dtype.kind not in "biuf" or found.shape != shape:
        came = f"shape {found.shape}" if found.dtype.kind in "biuf" else f"{str(value)[:40]!r}"
        raise Rejected(OTHER_INPUT, f"an input must be an array of numbers of shape {shape}, got {came}.")
    if not np.isfinite(found).all():
        raise Rejected(OTHER_INPUT, "an input must hold finite numbers, got NaN or infinity.")
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        if found.min() < limits.min or found.max() > limits.max or (found != np.round(found)).any():
            raise Rejected(OTHER_INPUT, f"an input must hold whole numbers from {limits.min} to {limits.max}.")
    return found.astype(dtype)


def named_probabilities(row: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """The answer of a classifier: the most probable class, and the probability of each."""
    if not np.isfinite(row).all():
        raise Rejected(FAILED, "the model gave numbers that are not finite for this input.")
    best = int(row.argmax())
    return {"label": names[best], "class": best, "probabilities": dict(zip(names, map(float, row), strict=True))}


def other_class(row: np.ndarray, other: np.ndarray) -> float:
    """1 where the most probable classes of one input differ, else 0."""
    return float(row.argmax() != other.argmax())
