"""The parity of a trial's exported file with its model, on examples of its data or on arrays from a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qat import tasks
from qat.data import Dataset, in_order
from qat.export.description import Description, read_description
from qat.export.parity import Bounds, Certificate, MetricScale, Score, Subject, certify
from qat.export.parity.certify import Batch
from qat.lab.experiment.training import Workload
from qat.lab.runs.parity import write_parity
from qat.tasks import Task

OF_SWEEPS = 64  # examples that a sweep compares each file on
MOST_VALUES = 1 << 20  # of a batch's inputs: the codes of all its activations are held at once
LARGEST_BATCH = 16
ARRAYS = ".npz"


@dataclass(frozen=True)
class Inputs:
    """The inputs of a comparison: batches with what their score needs, told in words, and the score where the task's
    labels are there."""

    batches: Iterator[Batch]
    about: str
    _: KW_ONLY
    score: Score | None = None


def inputs_of_split(dataset: Dataset, split: str, limit: int | None, decoded: bool) -> Inputs:
    """The first examples of a split, all of them where there is no `limit`, scored by the data set's task; `decoded`
    says that a detector's outputs are detections. Raises `ValueError` for an unknown or empty split."""
    source, task = dataset.filled(split), tasks.build(dataset.task)
    count = len(source) if limit is None else min(limit, len(source))
    size = _batch_size(task.arguments(next(iter(in_order(source, 1)))))

    def batches() -> Iterator[Batch]:
        left = count
        for batch in in_order(source, size):
            if left <= 0:
                return
            taken = {name: np.asarray(x)[:left] for name, x in batch.items()}
            left -= size
            yield jax.tree.map(np.asarray, task.arguments(taken)), taken

    about = f"{count:,} of {len(source):,} of the split {split} of {dataset.name}"
    return Inputs(batches(), about, score=_score(task, decoded))


def inputs_of_file(path: Path, names: Sequence[str], limit: int | None) -> Inputs:
    """The arrays in a file of NumPy, by the names of the model's inputs, or in their order where the file has no such
    names. Raises `ValueError` for a file that is missing, damaged, or of other arrays."""
    arrays = _arrays(path)
    chosen = [arrays[name] for name in names] if set(names) <= set(arrays) else list(arrays.values())
    lengths = {len(x) if np.ndim(x) else 0 for x in chosen}
    if len(chosen) != len(names) or len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"{str(path)!r} must hold the arrays {', '.join(names)} with equally many examples, at least one, got "
            f"{', '.join(f'{name} {x.shape}' for name, x in arrays.items()) or 'none'}."
        )
    count = lengths.pop() if limit is None else min(limit, lengths.pop())
    size = _batch_size(tuple(x[:1] for x in chosen))
    batches = ((tuple(x[s : min(s + size, count)] for x in chosen), None) for s in range(0, count, size))
    return Inputs(batches, f"{count:,} of {path.name}")


def certify_export(
    path: Path,
    subject: Subject,
    inputs: Inputs,
    *,
    bounds: Bounds | None = None,
    runtimes: Sequence[str] = (),
) -> Certificate:
    """The certificate of a trial's exported file on these inputs; see `qat.export.parity.certify`."""
    more = {"score": inputs.score, "bounds": bounds, "runtimes": runtimes}
    return certify(path, subject, inputs.batches, inputs=inputs.about, **more)


def certify_written(path: Path, subject: Subject, workload: Workload) -> str | None:
    """Write the certificate of a file that a sweep exported, on some test examples; where there is none, why in a
    sentence. A file that holds no program has none, and needs none."""
    description = read_description(path)
    if not description.outputs:
        return None
    try:
        inputs = inputs_of_split(workload.dataset, "test", OF_SWEEPS, is_decoded(description))
        write_parity(path, certify_export(path, subject, inputs))
    except ValueError as error:
        return f"Its parity is not certified: {error}"
    return None


def is_decoded(description: Description) -> bool:
    """Whether the program that is described gives detections in the place of a network's outputs."""
    return bool(description.about.get("decoded"))


def _score(task: Task, decoded: bool) -> Score:
    metric = task.metric
    scale = MetricScale(metric.name, metric.factor, metric.difference_unit, sign=metric.sign)
    return Score(jax.jit(_of_detections if decoded else task.examples), task.summary, scale)


def _of_detections(outputs: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays that the task of detection makes of a network's outputs, from detections."""
    return {**outputs._asdict(), "target_boxes": batch["boxes"], "target_labels": batch["labels"]}


def _batch_size(example: tuple[Any, ...]) -> int:
    values = sum(np.size(x) for x in jax.tree.leaves(example))
    return max(1, min(LARGEST_BATCH, MOST_VALUES // max(1, values)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise ValueError(
            f"there is no file of inputs at {str(path)!r}. Name a split of the data, or a file {ARRAYS}."
        ) from None
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"{str(path)!r} is no file of NumPy arrays ({error}). `np.savez` writes one.") from None
