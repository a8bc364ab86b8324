"""Boxes and labels of images: what makes a box wrong, and rows of equal length."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

NOTHING = -1  # the label of a row without an object
ROUNDING = 1.0  # pixels by which a box in fractions of a pixel may pass the edge of its image


@dataclass(frozen=True)
class Objects:
    """What is on one image: float32[n, 4] corners (x1, y1, x2, y2) in pixels, and int32[n] labels from 0."""

    boxes: np.ndarray
    labels: np.ndarray

    @staticmethod
    def of(boxes: ArrayLike, labels: ArrayLike) -> "Objects":
        """From anything like arrays, which may be empty."""
        return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32))


def wrong_box(box: Sequence[float], width: float, height: float, tolerance: float = 0.0) -> str | None:
    """Why (x1, y1, x2, y2) is no box on an image of that size; None where it is one.

    It may pass the edges by `tolerance` pixels.
    """
    x1, y1, x2, y2 = box
    text = f"({', '.join(f'{side:g}' for side in box)})"
    if not all(math.isfinite(side) for side in box):
        return f"box {text} has sides that are not finite"
    if x2 <= x1 or y2 <= y1:
        return f"box {text} has no area: expected x1 < x2 and y1 < y2"
    if min(x1, y1) < -tolerance or x2 > width + tolerance or y2 > height + tolerance:
        return f"box {text} reaches outside the image of {width:g} x {height:g} pixels"
    return None


def most(objects: Sequence[Objects]) -> int:
    """The largest number of objects on an image, at least 1."""
    return max([1, *(len(one.labels) for one in objects)])


def padded(objects: Sequence[Objects], rows: int) -> dict[str, np.ndarray]:
    """`boxes` float32[images, rows, 4], 0 beyond the objects, and `labels` int32[images, rows], there -1."""
    boxes = np.zeros((len(objects), rows, 4), np.float32)
    labels = np.full((len(objects), rows), NOTHING, np.int32)
    for image, one in enumerate(objects):
        boxes[image, : len(one.labels)], labels[image, : len(one.labels)] = one.boxes, one.labels
    return {"boxes": boxes, "labels": labels}
