"""Metrics of a detector: COCO's average precision, and DeepPCB's criterion, by faster-coco-eval.

`map50_95` and `map50` are COCO's (Lin et al. 2014, arXiv 1405.0312). DeepPCB's criterion (Tang et al. 2019, arXiv
1902.06197) takes a box for found where a detection of its class overlaps it by an IoU above 0.33: `deeppcb_ap` is the
mean over the classes of the average precision at that, and `deeppcb_f` the best F-score that one confidence threshold
for all classes together, `deeppcb_threshold`, can reach. A class's own numbers follow as `map50_95/NAME` and so on, its
F-score at the common threshold; a class without any object in the ground truth has none, and does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

OVERLAPS = np.linspace(0.5, 0.95, 10)
LOOSE = np.array([np.nextafter(0.33, 1)])  # COCO asks for at least, DeepPCB for more than
PER_CLASS = 100  # detections of a class in an image that count, the best

type Arrays = Mapping[str, np.ndarray]


def metrics(arrays: Arrays, names: Sequence[str] = ()) -> dict[str, float]:
    """The numbers above, fractions in [0, 1], from `boxes` [images, detections, 4], `scores` and `labels` and the
    `target_boxes` [images, objects, 4] and `target_labels` that are true; labels are -1 where there is no box.

    `names` are the classes', by label; without them a class's name is its label. Raises `ValueError` where there is no
    object in the ground truth at all: then nothing is defined.
    """
    targets = Objects.of(arrays["target_boxes"], arrays["target_labels"])
    found = Objects.of(arrays["boxes"], arrays["labels"], arrays["scores"])
    known = _names(names, targets, found)
    images = len(arrays["labels"])
    strict = _evaluated(targets, found, images, known, OVERLAPS)
    loose = _evaluated(targets, found, images, known, LOOSE)
    precision, ap = _precisions(strict), _precisions(loose)[0]
    f = _f_scores(targets, found, _is_right(found, loose), len(known))
    common = {"map50_95": precision.mean(0), "map50": precision[0], "deeppcb_ap": ap}
    present = np.unique(targets.labels)
    result = {name: float(values[present].mean()) for name, values in common.items()}
    result |= {"deeppcb_f": f.best, "deeppcb_threshold": f.threshold}
    for name, values in {**common, "deeppcb_f": f.by_class}.items():
        result |= {f"{name}/{known[label]}": float(values[label]) for label in present}
    return result


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


@dataclass(frozen=True)
class FScores:
    """The best F-score over all classes, the threshold that gives it, and each class's F-score there."""

    best: float
    threshold: float
    by_class: np.ndarray


def _names(names: Sequence[str], targets: Objects, found: Objects) -> list[str]:
    if not len(targets.labels):
        raise ValueError(
            "`target_labels` must hold an object in at least one image, got none: average precision is not defined. "
            "Is it the right split?"
        )
    highest = int(max(targets.labels.max(), found.labels.max(initial=0)))
    if names and highest >= len(names):
        raise ValueError(f"`names` must name every class, but there are {len(names)} names and a label {highest}.")
    return list(names) or [str(label) for label in range(highest + 1)]


def _evaluated(
    targets: Objects, found: Objects, images: int, names: Sequence[str], overlaps: np.ndarray
) -> dict[str, Any]:
    """Evaluate detections at the IoUs `overlaps` by the library."""
    from faster_coco_eval import COCO, COCOeval_faster

    about = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(names)],
    }
    truth, results = (COCO({**about, "annotations": objects.annotations()}) for objects in (targets, found))
    evaluation = COCOeval_faster(truth, results, "bbox")
    evaluation.params.iouThrs = overlaps
    evaluation.params.maxDets = [PER_CLASS]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _precisions(evaluated: Mapping[str, Any]) -> np.ndarray:
    """Average precision [overlaps, classes]: the mean over 101 recalls; -1 for a class without objects."""
    return np.asarray(evaluated["precision"])[:, :, :, 0, 0].mean(1)


def _is_right(found: Objects, evaluated: Mapping[str, Any]) -> np.ndarray:
    """Whether each detection was matched with an object of its class; for an evaluation at one overlap."""
    right = np.zeros(len(found.labels), bool)
    right[[int(pair.partition("_")[0]) - 1 for pair in evaluated["matched"]]] = True
    return right


def _f_scores(targets: Objects, found: Objects, right: np.ndarray, classes: int) -> FScores:
    if not right.any():
        return FScores(0.0, 1.0, np.zeros(classes))
    order = np.argsort(-found.scores, kind="stable")
    scores = found.scores[order]
    last = np.append(scores[1:] != scores[:-1], True)  # of equal scores all are above a threshold, or none
    f = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + len(targets.labels))
    best = int(np.argmax(np.where(last, f, 0.0)))
    above = found.scores >= scores[best]
    taken, hits, there = (
        np.bincount(labels, minlength=classes)
        for labels in (found.labels[above], found.labels[above & right], targets.labels)
    )
    return FScores(float(f[best]), float(scores[best]), 2 * hits / np.maximum(taken + there, 1))
