"""What one detector finds on an image and another does not."""

import numpy as np

from qat.detection.boxes import pairwise_iou
from qat.detection.suppress import Detections

SAME = 0.5  # IoU from which on two boxes of a class are one


def shown(found: Detections, threshold: float) -> np.ndarray:
    """Which detections of one image have a score of at least `threshold`."""
    return (np.asarray(found.scores) >= threshold) & (np.asarray(found.labels) >= 0)


def differing(first: Detections, second: Detections, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of the detections of each that are shown have no counterpart among those of the other: a box of the same
    class with an IoU of at least a half. Counterparts are paired off by their overlap, the best first."""
    alone = shown(first, threshold), shown(second, threshold)
    overlaps = np.array(pairwise_iou(first.boxes, second.boxes))
    overlaps[~(alone[0][:, None] & alone[1][None])] = 0
    overlaps[np.asarray(first.labels)[:, None] != np.asarray(second.labels)[None]] = 0
    while overlaps.max(initial=0) >= SAME:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps[i], overlaps[:, j] = 0, 0
        alone[0][i] = alone[1][j] = False
    return alone
