"""Logits of one of several classes against the field `label`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from qat.tasks.task import Batch


def loss(logits: Any, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean cross-entropy in nats, and the accuracy to watch."""
    value = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    return value, {"accuracy": (logits.argmax(-1) == batch["label"]).mean()}


def examples(logits: Any, batch: Batch) -> dict[str, jax.Array]:
    """Of each example whether it is right (0 or 1), its cross-entropy and its prediction."""
    prediction = logits.argmax(-1)
    return {
        "accuracy": (prediction == batch["label"]).astype(jnp.float32),
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]),
        "prediction": prediction,
    }
