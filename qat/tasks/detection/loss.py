"""The loss of a detector: which class at which point, and how well its box fits."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from qat.tasks.detection.boxes import area, ciou, iou, sides, to_boxes

LONGEST = 4  # times the shorter side, at most, is what counts of the longer one


@dataclass(frozen=True)
class Assigner:
    """A point stands for an object where it lies inside its box, at most `radius` strides from its centre on either
    axis, on the object's level; of several objects the smallest counts, of equal ones the nearest.

    An object's level is the finest whose stride times `largest` is not less than its longer side, or the coarsest. Of
    a long and thin object only four times the shorter side counts, so that it is never thinner than a cell of a level
    above the finest. With `largest` 8 every box whose sides are above the finest stride has a point, unless
    smaller ones take them all.
    """

    radius: float = 1.5
    largest: float = 8.0

    def __call__(
        self,
        centres: Float[Array, "points 2"],
        strides: Float[Array, " points"],
        boxes: Float[Array, "objects 4"],
        present: Bool[Array, " objects"],
    ) -> tuple[Int32[Array, " points"], Bool[Array, " points"]]:
        """Assign to each point the object that it stands for, and whether it stands for one."""
        (x, y), (x1, y1, x2, y2) = centres.T[:, :, None], boxes.T
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
        away = jnp.maximum(jnp.abs(x - (x1 + x2) / 2), jnp.abs(y - (y1 + y2) / 2)) / strides[:, None]
        fits = inside & (away <= self.radius) & self._on_level(boxes, strides) & present
        size = jnp.where(fits, area(boxes), jnp.inf)
        smallest = fits & (size <= size.min(1, keepdims=True))
        return jnp.where(smallest, away, jnp.inf).argmin(1).astype(jnp.int32), fits.any(1)

    def _on_level(
        self, boxes: Float[Array, "objects 4"], strides: Float[Array, " points"]
    ) -> Bool[Array, "points objects"]:
        size = sides(boxes)
        length = jnp.minimum(size.max(-1), LONGEST * size.min(-1)) / strides[:, None]
        above = (length > self.largest / 2) | (strides == strides.min())[:, None]
        below = (length <= self.largest) | (strides == strides.max())[:, None]
        return above & below


@dataclass(frozen=True)
class DetectionLoss:
    """Quality focal loss on the classes (Li et al. 2020, arXiv 2006.04388), whose target is the IoU that the predicted
    box has, and complete IoU on the boxes (Zheng et al. 2020, arXiv 1911.08287), both over the number of points that
    stand for an object."""

    assigner: Assigner = field(default_factory=Assigner)
    gamma: float = 2.0
    box_weight: float = 2.0

    def __call__(
        self,
        logits: Float[Array, "batch points classes"],
        distances: Float[Array, "batch points 4"],
        centres: Float[Array, "points 2"],
        strides: Float[Array, " points"],
        boxes: Float[Array, "batch objects 4"],
        labels: Int32[Array, "batch objects"],
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss, and its parts to watch. `labels` are -1 where there is no object; `distances` are in pixels."""
        assign = jax.vmap(self.assigner, (None, None, 0, 0))
        chosen, positive = assign(centres, strides, boxes, labels >= 0)
        target = jnp.take_along_axis(boxes, chosen[..., None], 1)
        label = jnp.take_along_axis(labels, chosen, 1)
        predicted = to_boxes(centres, distances)
        count = jnp.maximum(positive.sum(), 1).astype(jnp.float32)
        quality = jnp.where(positive, jax.lax.stop_gradient(iou(predicted, target)), 0.0)
        wanted = jax.nn.one_hot(label, logits.shape[-1]) * quality[..., None]
        classes = self._focal(logits, wanted).sum() / count
        box = jnp.where(positive, 1 - ciou(predicted, target), 0.0).sum() / count
        watched = {
            "class_loss": classes,
            "box_loss": box,
            "iou": quality.sum() / count,
            "points_per_image": positive.sum() / jnp.float32(len(labels)),
        }
        return classes + self.box_weight * box, watched

    def _focal(
        self, logits: Float[Array, "batch points classes"], wanted: Float[Array, "batch points classes"]
    ) -> Float[Array, "batch points classes"]:
        away = jnp.abs(jax.nn.sigmoid(logits) - wanted)
        return away**self.gamma * (jax.nn.softplus(logits) - logits * wanted)
