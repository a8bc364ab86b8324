"""DeepPCB's published criterion: one average precision over all classes, and an F-score, from one matching.

The set (Tang et al. 2019, arXiv 1902.06197) is published with an evaluation script, that of the ICDAR 2015 competition
on words in images with classes in the place of words. Other than COCO's it matches boxes whatever their classes, and
compares the classes afterwards: of each image's objects, in the order of the annotations, each one takes the most
confident detection that is still free and overlaps it by an IoU above 0.33; the detection is right where it has the
object's class, else both are lost. Boxes are whole pixels, as in the files that the script reads. Nothing is
interpolated: the average precision is the sum of the precisions at each right detection, over the number of objects.
"""

from dataclasses import dataclass

import numpy as np

from qat.tasks.detection.objects import Objects

OVERLAP = 0.33


@dataclass(frozen=True)
class Pooled:
    """The average precision over all classes, and the best F-score with the threshold of confidence that gives it."""

    ap: float
    f: float
    threshold: float


def pooled(targets: Objects, found: Objects) -> Pooled:
    """Evaluate detections by the published script's rule; of equal scores the earlier image's come first."""
    right = is_right(targets, found)
    order = np.argsort(-found.scores, kind="stable")
    hits = right[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    f, threshold = best_f(found.scores, right, len(targets.labels))
    return Pooled(float(precision[hits].sum() / len(targets.labels)), f, threshold)


def is_right(targets: Objects, found: Objects) -> np.ndarray:
    """Whether each detection was taken by an object of its class, bool[detections].

    A threshold changes nothing of it: a detection is never taken in the place of a more confident one.
    """
    right = np.zeros(len(found.labels), bool)
    truth, boxes = np.rint(targets.corners), np.rint(found.corners)
    order = np.lexsort((-found.scores, found.images))  # by image, the most confident first
    ends = np.searchsorted(found.images[order], np.arange(targets.images.max(initial=-1) + 2))
    free = np.ones(len(found.labels), bool)
    for image, box, label in zip(targets.images, truth, targets.labels, strict=True):
        here = order[ends[image] : ends[image + 1]]
        able = here[free[here] & (_iou(box, boxes[here]) > OVERLAP)]
        if len(able):
            free[able[0]] = False
            right[able[0]] = found.labels[able[0]] == label
    return right


def best_f(scores: np.ndarray, right: np.ndarray, objects: int) -> tuple[float, float]:
    """The best F-score of any one threshold of confidence, and that threshold; 0 and 1 where no detection is right."""
    if not right.any():
        return 0.0, 1.0
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal scores all are above a threshold, or none
    f = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + objects)
    best = int(np.argmax(np.where(last, f, 0.0)))
    return float(f[best]), float(ranked[best])


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), -1)
    areas = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], -1)
    return shared / np.maximum(areas - shared, 1)
