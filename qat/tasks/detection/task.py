"""Objects as boxes of a class: fields `image`, `boxes`, `labels`; outputs are logits and distances at points."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from qat.tasks.detection.boxes import points
from qat.tasks.detection.decode import detections
from qat.tasks.detection.loss import DetectionLoss
from qat.tasks.detection.metrics import metrics
from qat.tasks.metric import Metric, fraction
from qat.tasks.task import Batch, Task, register

LOSS = DetectionLoss()
METRICS = (
    *map(fraction, ("map50_95", "map50", "map33", "f33", "deeppcb_ap", "deeppcb_f")),
    *(Metric(name, None, range=(0.0, 1.0)) for name in ("f33_threshold", "deeppcb_threshold")),
)


@register
def detection(class_names: tuple[str, ...] = ()) -> Task:
    """COCO's mAP50-95 is what counts; see `qat.tasks.detection.metrics` for the other metrics.

    The model sees `image` times the field `scale` of each example, in float: 1 / 255 for photographs. Without that
    field pixels stay as they are. `class_names` are for the metrics of each class.
    """
    return Task(METRICS, _inputs, _loss, _examples, functools.partial(metrics, names=tuple(class_names)))


def _inputs(batch: Batch) -> tuple[Any, ...]:
    image = jnp.asarray(batch["image"], jnp.float32)
    if "scale" not in batch:
        return (image,)
    return (image * jnp.asarray(batch["scale"], jnp.float32).reshape(-1, 1, 1, 1),)


def _loss(outputs: Mapping[str, jax.Array], batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    centres, strides = points(*batch["image"].shape[1:3])
    return LOSS(outputs["logits"], outputs["distances"], centres, strides, batch["boxes"], batch["labels"])


def _examples(outputs: Mapping[str, jax.Array], batch: Batch) -> dict[str, jax.Array]:
    found = detections(outputs, *batch["image"].shape[1:3])
    return {**found._asdict(), "target_boxes": batch["boxes"], "target_labels": batch["labels"]}
