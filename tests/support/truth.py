"""What a detector that is always right says of boards."""

import jax
import jax.numpy as jnp

from qat.tasks.detection.boxes import points
from qat.tasks.detection.loss import Assigner

ASSIGN = jax.jit(jax.vmap(Assigner(), (None, None, 0, 0)))


def truth(batch, confidence=20.0):
    """Logits and distances: exact boxes at every point that stands for an object, and its class."""
    centres, sizes = points(*batch["image"].shape[1:3])
    boxes, labels = jnp.asarray(batch["boxes"]), jnp.asarray(batch["labels"])
    chosen, positive = ASSIGN(centres, sizes, boxes, labels >= 0)
    target = jnp.take_along_axis(boxes, chosen[..., None], 1)
    label = jnp.where(positive, jnp.take_along_axis(labels, chosen, 1), -1)
    distances = jnp.concatenate([centres - target[..., :2], target[..., 2:] - centres], -1)
    return confidence * (2 * jax.nn.one_hot(label, 2) - 1), distances
