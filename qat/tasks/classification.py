"""One of several classes: fields `image` and `label`, outputs are logits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qat.tasks.cross_entropy import examples, loss
from qat.tasks.distill import divergence
from qat.tasks.task import Batch, Task, register


@register
def classification() -> Task:
    """Cross-entropy; accuracy is what counts."""
    return Task("accuracy", _inputs, loss, examples, _summary, divergence)


def _inputs(batch: Batch) -> tuple[Any, ...]:
    return (batch["image"],)


def _summary(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.mean(arrays[name], dtype=np.float64)) for name in ("accuracy", "cross_entropy")}
