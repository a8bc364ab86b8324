"""MNIST as tensorflow-datasets prepared it, in ArrayRecord files, read without TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qat import data
from qat.data.dataset import Dataset
from qat.data.source import Example, InMemory, fingerprint
from qat.data.tfds import newest_version, records

REMEDY = (
    "Where TensorFlow is installed, run `tfds build mnist --file_format=array_record --data_dir=DIR`, "
    "copy DIR here and pass it as `data_dir`, or set TFDS_DATA_DIR to it."
)


@data.register
def mnist(data_dir: str | None = None, held_out: float = 1 / 12, seed: int = 0) -> Dataset:
    """Images `image` float32[28, 28, 1] in [0, 1] with `label` int32 (LeCun et al. 1998).

    `data_dir` is the folder that holds `mnist/<version>`; by default TFDS_DATA_DIR or `~/tensorflow_datasets`.
    Validation is `held_out` of the training images, drawn by `seed`. A split is decoded at first use.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"`held_out` must be in (0, 1), got {held_out}. It is the part of train used for validation.")
    folder = newest_version(data_dir, "mnist", REMEDY)
    opened = records(folder, ("train", "test"), _wrong, "MNIST", REMEDY)
    order = np.random.default_rng(seed).permutation(len(opened["train"]))
    count = round(held_out * len(order))
    parts = {"train": order[count:], "validation": order[:count], "test": np.arange(len(opened["test"]))}
    splits = {
        name: InMemory(_Part(opened["test" if name == "test" else "train"], np.sort(part)))
        for name, part in parts.items()
    }
    files = sorted(f"{path.name}:{path.stat().st_size}" for path in folder.iterdir())
    return Dataset("mnist", splits, classes=10, input_shape=(28, 28, 1), fingerprint=fingerprint(*files, order[:count]))


@dataclass(frozen=True)
class _Part:
    """A part of the records, scaled."""

    records: Sequence[Any]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        record = self.records[int(self.indices[index])]
        return {"image": record["image"].astype(np.float32) / 255, "label": np.asarray(record["label"], np.int32)}


def _wrong(split: str, record: Any) -> str | None:
    return None if record["image"].shape == (28, 28, 1) else f"images of {split} are not of shape (28, 28, 1)"
