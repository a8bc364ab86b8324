"""Outcomes of a model on every test example: `examples.npz`, named arrays with an entry for each example."""

import functools
import io
import math
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from qat.export.trees import refusing_damage
from qat.fileio import write_atomically
from qat.lab.runs.files import EXAMPLES_FILE, REDO_TRIAL, fault, sealed_by
from qat.lab.runs.record import RECORD_FILE, Record
from qat.tasks.detection.resample import CRITERIA, FIELDS, resampled_ap

MOST_BYTES = 1 << 30  # of the outcomes of a split's examples
REMEMBERED = 256  # arrays

type Examples = Callable[[Record, str | None], np.ndarray | None]
"""A record's main metric, or another by name, of each example; None where there is no such array."""


DRAWS = 500
SAME = 1e-5  # to which the metric of the images as they are must agree with what was recorded
REMEMBERED_DRAWS = 1024  # arrays

type Drawn = Callable[[Record, str | None], Float[np.ndarray, " draws"] | None]
"""A detector's metric on each draw of its test images; None where it has none. All detectors with as many images see
the same draws."""


def save_examples(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays over the examples of the test split into a trial's folder."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_atomically(folder / EXAMPLES_FILE, buffer.getvalue())


def load_examples(folder: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Load arrays that `save_examples` wrote, by default all.

    Raises `ValueError` where the file is damaged, or would take more memory than any split's outcomes do.
    """
    path = folder / EXAMPLES_FILE
    with refusing_damage(path, REDO_TRIAL):
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:  # pyright: ignore[reportArgumentType]
            kept = [one for one in archive.infolist() if names is None or one.filename.removesuffix(".npy") in names]
            if (size := sum(one.file_size for one in kept)) > MOST_BYTES:
                raise ValueError(f"its arrays take {size} bytes, more than {MOST_BYTES}")
            found = {one.filename.removesuffix(".npy"): archive.read(one) for one in kept}
        if missing := set(names or ()) - set(found):
            raise ValueError(f"it holds no {', '.join(sorted(missing))}")
        return {name: _array(content) for name, content in found.items()}


def has_examples(folder: Path) -> bool:
    """Whether a trial left its outcomes; older ones did not."""
    return (folder / EXAMPLES_FILE).exists()


def _array(content: bytes) -> np.ndarray:
    """A `.npy` file's array. Its header may promise more than the file holds, which numpy would make room for."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"an array of shape {shape} is not {len(content) - file.tell()} bytes")
    file.seek(0)
    return np.lib.format.read_array(file)


def reader(folders: Mapping[str, Path]) -> Examples:
    """A function from a record to its main metric, or another by name, of each example, by trials' folders.

    None where the trial has no such array, or one whose mean is not the metric: a test of it would answer something
    else. What is damaged, which `qat.lab.report.contents` names, counts as missing.
    """

    @functools.lru_cache(REMEMBERED)
    def read(trial: str, metric: str) -> np.ndarray | None:
        folder = folders.get(trial)
        if folder is None or fault(folder / EXAMPLES_FILE, sealed_by(folder / RECORD_FILE)):
            return None
        return _usable(folder, metric)

    def examples(record: Record, name: str | None = None) -> np.ndarray | None:
        name = name or record.metric.name
        found, recorded = read(record.trial, name), record.metrics.get(name, np.nan)
        same = found is not None and np.isclose(found.mean(dtype=np.float64), recorded, atol=1e-6)
        return found if same else None

    return examples


def _usable(folder: Path, name: str) -> np.ndarray | None:
    try:
        found = load_examples(folder, (name,))[name]
    except (OSError, ValueError):
        return None
    usable = found.ndim == 1 and found.size and found.dtype.kind in "biuf" and np.isfinite(found).all()
    return found if usable else None


def drawer(folders: Mapping[str, Path]) -> Drawn:
    """A function from a record, by its trial's folder, to its main metric, or another by name, on images drawn anew.

    None for metrics that are no average precision, for trials whose detections are missing or damaged, and where they
    do not make the recorded number.
    """

    @functools.lru_cache(REMEMBERED_DRAWS)
    def drawn(trial: str, name: str, recorded: float) -> np.ndarray | None:
        folder = folders.get(trial)
        if folder is None or fault(folder / EXAMPLES_FILE, sealed_by(folder / RECORD_FILE)):
            return None
        try:
            arrays = load_examples(folder, FIELDS)
            found = resampled_ap(arrays, name, _counts(len(arrays["labels"])))
        except (OSError, ValueError, IndexError):
            return None
        usable = np.isfinite(found).all() and abs(found[0] - recorded) <= SAME
        return found[1:] if usable else None

    def of(record: Record, name: str | None) -> np.ndarray | None:
        name = name or record.metric.name
        return drawn(record.trial, name, record.metrics.get(name, np.nan)) if name in CRITERIA else None

    return of


@functools.lru_cache(8)
def _counts(images: int) -> np.ndarray:
    """How often each image occurs: once each, and then in every draw."""
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
    return np.concatenate([np.ones((1, images), draws.dtype), draws])
