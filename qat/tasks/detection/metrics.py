"""Metrics of a detector: COCO's average precision by faster-coco-eval, the like at a loose overlap, and DeepPCB's own.

`map50_95` and `map50` are COCO's (Lin et al. 2014, arXiv 1405.0312). `map33` is the same, the mean over the classes of
101 interpolated precisions, where a detection of an object's class overlaps it by an IoU above 0.33, and `f33` the best
F-score that one confidence threshold for all classes together, `f33_threshold`, can reach at that. DeepPCB's published
script is stricter, and another one: see `qat.tasks.detection.pooled` for `deeppcb_ap`, `deeppcb_f` and
`deeppcb_threshold`. Figures of `deeppcb_ap` compare with other works on the set, `map33` with none.

All see every detection: one box may be there once for each class that it has a score of (`Suppression`), the best one
first. Such second guesses raise the metrics that match within a class; by the published script they are mistakes.

A class's own numbers follow as `map50_95/NAME` and so on, its `f33` at the common threshold; a class without any object
in the ground truth has none, and does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qat.tasks.detection.objects import Objects
from qat.tasks.detection.pooled import OVERLAP, best_f, pooled

OVERLAPS = np.linspace(0.5, 0.95, 10)
LOOSE = np.array([np.nextafter(OVERLAP, 1)])  # COCO asks for at least, DeepPCB for more than
THRESHOLD = "f33_threshold"  # the metric that says which scores were best taken for a detection
USUAL_THRESHOLD = 0.3  # where none was measured
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
    common = {"map50_95": precision.mean(0), "map50": precision[0], "map33": ap}
    present = np.unique(targets.labels)
    result = {name: float(values[present].mean()) for name, values in common.items()}
    result |= {"f33": f.best, THRESHOLD: f.threshold}
    own = pooled(targets, found)
    result |= {"deeppcb_ap": own.ap, "deeppcb_f": own.f, "deeppcb_threshold": own.threshold}
    for name, values in {**common, "f33": f.by_class}.items():
        result |= {f"{name}/{known[label]}": float(values[label]) for label in present}
    return result


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
    best, threshold = best_f(found.scores, right, len(targets.labels))
    above = found.scores >= threshold
    taken, hits, there = (
        np.bincount(labels, minlength=classes)
        for labels in (found.labels[above], found.labels[above & right], targets.labels)
    )
    return FScores(best, threshold, 2 * hits / np.maximum(taken + there, 1))
