"""Boxes of many images as flat arrays, without padding, as evaluations take them."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Objects:
    """Boxes of many images one after the other: of `images[i]`, (x, y, width, height) in pixels, a class, a score."""

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None = None) -> "Objects":
        """Drop padding (label -1) from corners [images, objects, 4] and labels [images, objects]."""
        images, places = np.nonzero(labels >= 0)
        corners = boxes[images, places].astype(np.float64)
        size = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], -1)
        score = np.ones(len(images)) if scores is None else scores[images, places].astype(np.float64)
        return cls(images, size, labels[images, places].astype(np.int64), score)

    @property
    def corners(self) -> np.ndarray:
        """Convert the boxes to (x1, y1, x2, y2)."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], -1)

    def annotations(self) -> list[dict[str, Any]]:
        """Convert to COCO's annotations; ids count from 1."""
        columns = (self.images.tolist(), self.boxes.tolist(), self.labels.tolist(), self.scores.tolist())
        return [
            {
                "id": i,
                "image_id": image,
                "category_id": label,
                "bbox": box,
                "area": box[2] * box[3],
                "score": score,
                "iscrowd": 0,
            }
            for i, (image, box, label, score) in enumerate(zip(*columns, strict=True), start=1)
        ]
