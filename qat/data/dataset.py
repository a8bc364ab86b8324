"""A data set: its named sources, and what a model must know of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qat.data.buckets import Buckets
from qat.data.source import Example, Source

type Augment = Callable[[Example, np.random.Generator], Example]
"""From a batch and a source of randomness to a changed batch; the same for the same state of the generator."""


@dataclass(frozen=True)
class Dataset:
    """Named splits and what a model must know of them.

    `input_shape` is one example's, without the batch. `fingerprint` is a digest that changes with the data; `task`
    names what is asked of a model. `augment` is for batches of the training split alone; `class_names` are in the order
    of the labels, none where the classes have no names.
    """

    name: str
    splits: Mapping[str, Source]
    classes: int
    input_shape: tuple[int, ...]
    fingerprint: str
    task: str = "classification"
    augment: Augment | None = None
    class_names: tuple[str, ...] = ()
    buckets: Buckets | None = None
    vocabulary: int | None = None

    def __post_init__(self):
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(
                f"`class_names` must name each of the {self.classes} classes, got {len(self.class_names)} names."
            )
