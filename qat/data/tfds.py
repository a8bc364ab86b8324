"""Data sets as tensorflow-datasets prepared them, in ArrayRecord files, read without TensorFlow."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def newest_version(data_dir: str | None, name: str, remedy: str) -> Path:
    """The folder `name/<version>` of the newest version in `data_dir`, by default TFDS_DATA_DIR or
    `~/tensorflow_datasets`. Raises `ValueError` that ends in `remedy` where there is none."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    versions = [path.parent for path in (root / name).glob("*/features.json")]
    if not versions:
        raise ValueError(
            f"`data_dir` must hold prepared data in {name}/<version>, found none in {str(root)!r}. {remedy}"
        )
    return max(versions, key=lambda path: [int(part) if part.isdecimal() else -1 for part in path.name.split(".")])


def records(
    folder: Path, splits: Sequence[str], wrong: Callable[[str, Any], str | None], what: str, remedy: str
) -> dict[str, Sequence[Any]]:
    """The records of these splits; opened and tried now, so that a broken file is found before any work.

    `wrong(split, record)` says what is wrong with a split's last record, if anything. Raises `ValueError` that names
    `what` was expected and ends in `remedy`.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        if (found := builder.info.file_format) != tfds.core.FileFormat.ARRAY_RECORD:
            raise ValueError(f"files are in format {found.value if found else None}, not array_record")
        source: Any = builder.as_data_source()
        opened = {name: source[name] for name in splits}
        for name, part in opened.items():
            if problem := wrong(name, part[len(part) - 1]):
                raise ValueError(problem)
    except Exception as error:
        raise ValueError(
            f"`data_dir` must hold readable {what}, but {str(folder)!r} is not: {error}. {remedy}"
        ) from error
    return opened
