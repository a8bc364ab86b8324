"""A whole detector as one function: network, boxes, suppression."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.detection.points import points, to_boxes
from qat.detection.suppress import Detections, Suppression

type Outputs = Mapping[str, Array]


def detections(outputs: Outputs, height: int, width: int, suppression: Suppression | None = None) -> Detections:
    """What a network's outputs (`logits` [batch, points, classes] and `distances` [batch, points, 4] in pixels) on
    images of this size come to; boxes end at the image's border."""
    centres, _ = points(height, width)
    edge = jnp.array([width, height, width, height], jnp.float32)
    boxes = jnp.clip(to_boxes(centres, outputs["distances"]), 0.0, edge)
    return jax.vmap(suppression or Suppression())(boxes, jax.nn.sigmoid(outputs["logits"]))


def detector(
    network: Callable[[Any, Array], Outputs], suppression: Suppression | None = None
) -> Callable[[Any, Float[Array, "batch height width channels"]], Detections]:
    """`detect(variables, images)` as one JAX function of a fixed size, to be compiled as a whole.

    `network(variables, images)` may be a float model's inference, or the `simulate` or `serve` of a quantized one.
    """

    def detect(variables: Any, images: Float[Array, "batch height width channels"]) -> Detections:
        _, height, width, _ = images.shape
        return detections(network(variables, images), height, width, suppression)

    return detect
