"""Data sets by name, as sources with random access; a new file here that registers a function is a new data set.

@data.register
def mine() -> Dataset: ...

digits = data.build("digits")
batches = data.Batches(digits.splits["train"], batch_size=64, seed=0)
"""

import functools

from qat.data.batches import Batches, in_buckets, in_order
from qat.data.buckets import Buckets
from qat.data.dataset import Dataset
from qat.data.source import Columns, InMemory, Source, fingerprint
from qat.registry import Registry, forgotten_on_change, load_members

datasets: Registry[Dataset] = Registry("data set")
"""Data sets by name."""
register = datasets.register
"""Make a function that returns a `Dataset` known under its name; use as a decorator."""
build = datasets.build
"""The data set that a text such as `"digits(held_out=0.25)"` names, made anew."""
names = datasets.names
"""The names of all data sets, sorted."""


@forgotten_on_change
@functools.lru_cache(maxsize=4)
def load(name: str) -> Dataset:
    """A registered data set, kept for whoever asks for it next."""
    return datasets.build(name)


load_members(__path__, __name__)

__all__ = [
    "Batches",
    "Buckets",
    "Columns",
    "Dataset",
    "InMemory",
    "Source",
    "build",
    "datasets",
    "fingerprint",
    "in_buckets",
    "in_order",
    "load",
    "names",
    "register",
]
