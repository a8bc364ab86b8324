"""A data set: its named sources, and what a model must know of them."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from qat.data.buckets import Buckets
from qat.data.source import Example, Source

type Augment = Callable[[Example, np.random.Generator], Example]
"""From a batch and a source of randomness to a changed batch; the same for the same state of the generator."""


@dataclass(frozen=True)
class Dataset:
    """Named splits and what a model must know of them.

    `fingerprint` is a digest that changes with the data; `task` names what is asked of a model. `classes` is 0 where
    examples are of no class, and `input_shape`, one example's without the batch, empty where a model's inputs are not
    one array. `augment` is for batches of the training split alone; `class_names` are in the order of the labels, none
    where the classes have no names. `sizes` are further arguments of a model's builder, by name.
    """

    name: str
    splits: Mapping[str, Source]
    _: KW_ONLY
    fingerprint: str
    classes: int = 0
    input_shape: tuple[int, ...] = ()
    task: str = "classification"
    augment: Augment | None = None
    class_names: tuple[str, ...] = ()
    buckets: Buckets | None = None
    vocabulary: int | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.class_names and len(self.class_names) != self.classes:
            raise ValueError(
                f"`class_names` must name each of the {self.classes} classes, got {len(self.class_names)} names."
            )

    def filled(self, split: str) -> Source:
        """The split of a name, for what needs its examples. Raises `ValueError` where it has none."""
        found = self.splits.get(split, ())
        if not len(found):
            sizes = ", ".join(f"{name} {len(source)}" for name, source in self.splits.items())
            raise ValueError(
                f"data {self.name!r} must have examples in the split {split!r}, got none (examples: {sizes}). Hold "
                "some out, such as by the data set's `held_out`, or choose another split."
            )
        return self.splits[split]

    @property
    def offers(self) -> dict[str, Any]:
        """The arguments that a model's builder may get of this data set, by name: all sizes that there are."""
        known = {"classes": self.classes, "input_shape": self.input_shape, "vocabulary": self.vocabulary}
        return {**{name: value for name, value in known.items() if value}, **self.sizes}
