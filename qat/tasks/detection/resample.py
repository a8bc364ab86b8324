"""Average precision on images drawn anew: detections are matched once, precisions computed for every draw.

As COCO's (Lin et al. 2014, arXiv 1405.0312): within a class the most confident detection takes the free object that it
overlaps most, if by enough; precisions are interpolated at 101 recalls. Classes without objects do not count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from qat.tasks.detection.metrics import LOOSE, OVERLAPS, PER_CLASS
from qat.tasks.detection.objects import Objects

CRITERIA = {"map50_95": OVERLAPS, "map50": OVERLAPS[:1], "map33": LOOSE}
RECALLS = np.linspace(0.0, 1.0, 101)
FIELDS: tuple[str, ...] = ("boxes", "scores", "labels", "target_boxes", "target_labels")


@dataclass(frozen=True)
class Matched:
    """Detections of a class, the most confident first: their `images`, and whether each is `right` at each overlap;
    `objects` counts those that there are in each image."""

    images: Int[np.ndarray, " detections"]
    right: Bool[np.ndarray, "overlaps detections"]
    objects: Int[np.ndarray, " images"]


def resampled_ap(
    arrays: Mapping[str, np.ndarray], name: str, counts: Int[np.ndarray, "draws images"]
) -> Float[np.ndarray, " draws"]:
    """`map50_95`, `map50` or `map33` of a detector for each draw, in which every image occurs so many times.

    `arrays` are those that `qat.tasks.detection.metrics` takes. NaN for a draw without objects.
    """
    found = np.stack([_precision(one, counts) for one in matched(arrays, CRITERIA[name])])
    there = ~np.isnan(found)
    number = there.sum(0)
    return np.where(number > 0, np.where(there, found, 0.0).sum(0) / np.maximum(number, 1), np.nan)


def matched(arrays: Mapping[str, np.ndarray], overlaps: Float[np.ndarray, " overlaps"]) -> Iterator[Matched]:
    """Yield the matches of each class that has objects."""
    targets = Objects.of(arrays["target_boxes"], arrays["target_labels"])
    found = Objects.of(arrays["boxes"], arrays["labels"], arrays["scores"])
    total = len(arrays["labels"])
    for label in np.unique(targets.labels):
        true, mine = (np.flatnonzero(one.labels == label) for one in (targets, found))
        mine = mine[np.lexsort((-found.scores[mine], found.images[mine]))]
        starts, ends = (np.searchsorted(found.images[mine], np.arange(total), side) for side in ("left", "right"))
        kept, right = [], []
        for image in range(total):
            here = mine[starts[image] : ends[image]][:PER_CLASS]
            there = true[targets.images[true] == image]
            kept.append(here)
            right.append(match(_iou(found.boxes[here], targets.boxes[there]), overlaps))
        order, hits = np.concatenate(kept), np.concatenate(right, axis=1)
        by_score = np.argsort(-found.scores[order], kind="stable")
        objects = np.bincount(targets.images[true], minlength=total)
        yield Matched(found.images[order][by_score], hits[:, by_score], objects)


def match(iou: Float[np.ndarray, "detections objects"], overlaps: Float[np.ndarray, " overlaps"]) -> np.ndarray:
    """Whether each detection, the most confident first, takes an object, bool[overlaps, detections]."""
    right = np.zeros((len(overlaps), len(iou)), bool)
    if not iou.size:
        return right
    free = np.ones((len(overlaps), iou.shape[1]), bool)
    rows = np.arange(len(overlaps))
    for i in np.flatnonzero(iou.max(1) >= overlaps.min()):
        able = np.where(free, iou[i], -1.0)
        best = able.shape[1] - 1 - able[:, ::-1].argmax(1)  # of equal overlaps COCO takes the last
        right[:, i] = able[rows, best] >= np.minimum(overlaps, 1 - 1e-10)
        free[rows[right[:, i]], best[right[:, i]]] = False
    return right


def _precision(one: Matched, counts: Int[np.ndarray, "draws images"]) -> Float[np.ndarray, " draws"]:
    """The average precision of a class for each draw, mean over the overlaps; NaN of draws without its objects."""
    weights = counts[:, one.images]
    above = np.cumsum(weights, 1)  # detections at least as confident
    objects = counts @ one.objects
    means = np.zeros(len(counts))
    for right in one.right:
        places = np.flatnonzero(right)  # precision falls between right ones, so that the others do not matter
        hits = np.cumsum(weights[:, places], 1)
        precision = hits / np.maximum(above[:, places], 1)
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        precision = np.concatenate([precision, np.zeros((len(counts), 1))], 1)
        recall = hits / np.maximum(objects, 1)[:, None]
        for draw in range(len(counts)):
            means[draw] += precision[draw, np.searchsorted(recall[draw], RECALLS)].mean()
    return np.where(objects > 0, means / len(one.right), np.nan)


def _iou(first: Float[np.ndarray, "a 4"], second: Float[np.ndarray, "b 4"]) -> Float[np.ndarray, "a b"]:
    """Overlaps of boxes (x, y, width, height)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, :2] + first[:, None, 2:], second[None, :, :2] + second[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0.0), -1)
    areas = [np.prod(boxes[:, 2:], -1) for boxes in (first, second)]
    return both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-12)
