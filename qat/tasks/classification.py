"""One of several classes: fields `image` and `label`, outputs are logits."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from qat.tasks.metric import Metric, fraction
from qat.tasks.task import Batch, Task, register

CROSS_ENTROPY = Metric("cross_entropy", "lower", unit="nats", range=(0.0, None))
METRICS = (fraction("accuracy"), CROSS_ENTROPY)


def divergence(logits: Float[Array, "batch classes"], teacher: Float[Array, "batch classes"]) -> Float[Array, ""]:
    """Kullback-Leibler divergence of the probabilities from the teacher's, in nats, mean over the batch (Hinton et al.
    2015, arXiv 1503.02531, at temperature 1)."""
    own, wanted = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher)
    return (jax.numpy.exp(wanted) * (wanted - own)).sum(-1).mean()


def loss(logits: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean cross-entropy in nats, and the accuracy to watch."""
    value = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    return value, {"accuracy": (logits.argmax(-1) == batch["label"]).mean()}


def examples(logits: Any, batch: Batch) -> dict[str, jax.Array]:
    """Compute for each example whether it is right (0 or 1), its cross-entropy and its prediction."""
    prediction = logits.argmax(-1)
    return {
        "accuracy": (prediction == batch["label"]).astype(jnp.float32),
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]),
        "prediction": prediction,
    }


@register
def classification() -> Task:
    """Cross-entropy; accuracy is what counts."""
    return Task(METRICS, _inputs, loss, examples, _summary, divergence)


def _inputs(batch: Batch) -> tuple[Any, ...]:
    return (batch["image"],)


def _summary(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.mean(arrays[name], dtype=np.float64)) for name in ("accuracy", "cross_entropy")}
