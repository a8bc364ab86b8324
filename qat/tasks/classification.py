"""One of several classes: fields `image` and `label`, outputs are logits."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from qat.tasks.distill import divergence
from qat.tasks.task import Batch, Task, register


@register
def classification() -> Task:
    """Cross-entropy; accuracy is what counts."""
    return Task("accuracy", _inputs, _loss, _examples, _summary, divergence)


def _inputs(batch: Batch) -> tuple[Any, ...]:
    return (batch["image"],)


def _loss(logits: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    return loss, {"accuracy": (logits.argmax(-1) == batch["label"]).mean()}


def _examples(logits: Any, batch: Batch) -> dict[str, jax.Array]:
    prediction = logits.argmax(-1)
    return {
        "accuracy": (prediction == batch["label"]).astype(jnp.float32),
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]),
        "prediction": prediction,
    }


def _summary(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.mean(arrays[name], dtype=np.float64)) for name in ("accuracy", "cross_entropy")}
