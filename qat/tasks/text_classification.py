"""A text is of one of several classes: fields `tokens`, `mask` and `label`, outputs are logits."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.tasks.classification import CROSS_ENTROPY, divergence, examples, loss
from qat.tasks.metric import fraction
from qat.tasks.task import Arrays, Batch, Task, register

METRICS = (*map(fraction, ("accuracy", "f1")), CROSS_ENTROPY, *map(fraction, ("precision", "recall")))


@register
def text_classification(class_names: tuple[str, ...] = ()) -> Task:
    """Cross-entropy; accuracy is what counts, and `scores` has the other metrics."""
    summary = functools.partial(scores, names=tuple(class_names))
    return Task(METRICS, _inputs, loss, _examples, summary, divergence)


def scores(arrays: Arrays, names: Sequence[str] = ()) -> dict[str, float]:
    """`accuracy`, `f1` and the mean `cross_entropy`, from the arrays of a split's examples.

    Of two classes `f1` is that of class 1, of more the mean over the classes with a label. A class's own follow as
    `precision/NAME`, `recall/NAME` and `f1/NAME`; a class without any label has none. `names` are the classes', by
    label; without them a class's name is its label. All are fractions but the cross-entropy, which is in nats.
    """
    counts = confusion(arrays, len(names))
    known = list(names) or [str(label) for label in range(len(counts))]
    right, labels, predictions = np.diag(counts), counts.sum(1), counts.sum(0)
    by_class = {
        "precision": _ratio(right, predictions),
        "recall": _ratio(right, labels),
        "f1": _ratio(2 * right, labels + predictions),
    }
    present = np.flatnonzero(labels)
    f1 = by_class["f1"][1] if len(known) == 2 else by_class["f1"][present].mean()
    means = {name: float(np.mean(arrays[name], dtype=np.float64)) for name in ("accuracy", "cross_entropy")}
    own = {f"{name}/{known[label]}": float(values[label]) for name, values in by_class.items() for label in present}
    return {"accuracy": means["accuracy"], "f1": float(f1), "cross_entropy": means["cross_entropy"], **own}


def confusion(arrays: Arrays, classes: int = 0) -> np.ndarray:
    """Count examples by label (rows) and prediction (columns), int64[classes, classes].

    Without `classes` as many as labels and predictions show, at least two.
    """
    label, prediction = arrays["label"].astype(np.int64), arrays["prediction"].astype(np.int64)
    shown = 1 + int(max(label.max(), prediction.max()))
    if classes and shown > classes:
        raise ValueError(f"`classes` must be more than any label and prediction, got {classes} and {shown - 1}.")
    count = classes or max(2, shown)
    return np.bincount(label * count + prediction, minlength=count * count).reshape(count, count)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part by whole, 0 where the whole is nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _inputs(batch: Batch) -> tuple[Any, ...]:
    return batch["tokens"], batch["mask"]


def _examples(logits: Any, batch: Batch) -> dict[str, jax.Array]:
    return {**examples(logits, batch), "label": jnp.asarray(batch["label"])}
