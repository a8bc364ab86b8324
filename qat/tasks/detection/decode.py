"""A whole detector as one function: network, boxes, suppression."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from qat.tasks.detection.boxes import pairwise_iou, points, to_boxes


class Detections(NamedTuple):
    """The best first; where there are fewer, box and score are 0 and the label is -1."""

    boxes: Float[Array, "*b detections 4"]
    scores: Float[Array, "*b detections"]
    labels: Int32[Array, "*b detections"]


@dataclass(frozen=True)
class Suppression:
    """Greedy suppression of one image: of the `candidates` points of the highest score above `least`, each under its
    best class, one stays where no better one that stays overlaps it by an IoU of more than `overlap`, whatever their
    classes. What stays is a detection of each class that it has a score above `least` of, so that a metric over
    rankings sees the second guess too; the best `detections` are given.

    The box of one that stays is the mean of all candidates' that overlap it by at least `vote`, weighted by their
    scores (Gidaris and Komodakis 2015, arXiv 1505.01749); with `vote` 1 its own.
    """

    candidates: int = 300
    detections: int = 100
    overlap: float = 0.5
    vote: float = 0.7
    least: float = 0.001

    def __post_init__(self):
        if not 1 <= self.detections <= self.candidates:
            raise ValueError(
                f"`detections` must be at least 1 and at most `candidates`, got {self.detections} of {self.candidates}."
            )
        if not (0 <= self.overlap <= 1 and 0 < self.vote <= 1 and 0 <= self.least < 1):
            raise ValueError(
                f"`overlap` must be in [0, 1], `vote` in (0, 1] and `least` in [0, 1), got {self.overlap}, {self.vote} "
                f"and {self.least}: two IoUs and a score."
            )

    def __call__(self, boxes: Float[Array, "points 4"], scores: Float[Array, "points classes"]) -> Detections:
        """The detections of one image, `detections` in number or one a point and class; `jax.vmap` gives a batch's."""
        score, order = jax.lax.top_k(scores.max(-1), min(self.candidates, len(boxes)))
        boxes, scores = boxes[order], scores[order]
        shared = pairwise_iou(boxes, boxes)
        blocks = jnp.tril(shared > self.overlap, -1)

        def decide(i: Array, stays: Array) -> Array:
            return stays.at[i].set(stays[i] & ~(blocks[i] & stays).any())

        stays = jax.lax.fori_loop(0, len(score), decide, score > self.least)
        scores = jnp.where(stays[:, None] & (scores > self.least), scores, 0.0)
        best, pairs = jax.lax.top_k(scores.reshape(-1), min(self.detections, scores.size))
        order, label = jnp.divmod(pairs, scores.shape[-1])
        own = boxes[order]
        if self.vote < 1:  # no matrix product, which would be a site to quantize
            weight = jnp.where(shared[order] >= self.vote, score, 0.0)[..., None]
            moved = (weight * (boxes - own[:, None])).sum(1)
            own += moved / jnp.maximum(weight.sum(1), 1e-9)
        boxes = jnp.where(best[:, None] > 0, own, 0.0)
        return Detections(boxes, best, jnp.where(best > 0, label, -1))


type Outputs = Mapping[str, Array]


def detections(outputs: Outputs, height: int, width: int, suppression: Suppression | None = None) -> Detections:
    """Decode a network's outputs (`logits` [batch, points, classes] and `distances` [batch, points, 4] in pixels) on
    images of this size; boxes end at the image's border.
    """
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
