"""The loss of a detector: which class at which point, and how well its box fits."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from qat.detection.assign import Assigner
from qat.detection.boxes import ciou, iou
from qat.detection.points import to_boxes


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
