"""MNIST as tensorflow-datasets prepared it, in ArrayRecord files, read without TensorFlow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qat import data
from qat.data.source import Dataset, Example, InMemory, fingerprint

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
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    folder = _newest_version(root)
    records = _open(folder)
    order = np.random.default_rng(seed).permutation(len(records["train"]))
    count = round(held_out * len(order))
    parts = {"train": order[count:], "validation": order[:count], "test": np.arange(len(records["test"]))}
    splits = {
        name: InMemory(_Part(records["test" if name == "test" else "train"], np.sort(part)))
        for name, part in parts.items()
    }
    files = sorted(f"{path.name}:{path.stat().st_size}" for path in folder.iterdir())
    return Dataset("mnist", splits, classes=10, input_shape=(28, 28, 1), fingerprint=fingerprint(*files, order[:count]))


@dataclass(frozen=True)
class _Part:
    """Some of the records, scaled."""

    records: Sequence[Any]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        record = self.records[int(self.indices[index])]
        return {"image": record["image"].astype(np.float32) / 255, "label": np.asarray(record["label"], np.int32)}


def _newest_version(root: Path) -> Path:
    versions = [path.parent for path in (root / "mnist").glob("*/features.json")]
    if not versions:
        raise ValueError(
            f"`data_dir` must hold prepared data in mnist/<version>, found none in {str(root)!r}. {REMEDY}"
        )
    return max(versions, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")])


def _open(folder: Path) -> dict[str, Sequence[Any]]:
    """The records of train and test; opened and tried now, so that a broken file is found before any work."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        if (found := builder.info.file_format) != tfds.core.FileFormat.ARRAY_RECORD:
            raise ValueError(f"files are in format {found.value if found else None}, not array_record")
        splits: Any = builder.as_data_source()
        records = {name: splits[name] for name in ("train", "test")}
        for name, source in records.items():
            if source[len(source) - 1]["image"].shape != (28, 28, 1):
                raise ValueError(f"images of {name} are not of shape (28, 28, 1)")
    except Exception as error:
        raise ValueError(
            f"`data_dir` must hold readable MNIST, but {str(folder)!r} is not: {error}. {REMEDY}"
        ) from error
    return records
