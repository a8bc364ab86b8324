"""Test examples that a float model gets right and its quantized model wrong, and back."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from qat.lab.report.pairing import Baselines
from qat.lab.runs.cache import from_examples
from qat.lab.runs.examples import load_examples
from qat.lab.runs.record import Record
from qat.tasks.detection.metrics import THRESHOLD, USUAL_THRESHOLD
from qat.tasks.detection.resample import FIELDS, match

OVERLAP = 0.5  # IoU from which on a box of an object's class has found it
LEAST = 0.05  # score of boxes that are kept
SHOWN = 12  # examples of a trial or an arm, each way
MOST_TRIALS, MOST_DETECTORS = 400, 40  # of which outcomes are compared

type Box = tuple[int, int, int, int, float, int, bool]
"""Corners in pixels, score, label, and whether it found an object."""


@dataclass(frozen=True)
class Outcome:
    """A model on each test example. `score` is 1 where it is right and 0 where it is wrong, or the number of objects
    that a detector found; `said` its prediction, `probability` that of the true label, where they are known; `boxes`
    those of a detector above a threshold."""

    score: Int[np.ndarray, " examples"]
    said: Int[np.ndarray, " examples"] | None = None
    probability: Float[np.ndarray, " examples"] | None = None
    boxes: tuple[tuple[Box, ...], ...] | None = None


@dataclass(frozen=True)
class Flip:
    """An example with the outcomes of the float model (first) and of the quantized one, in so many of an arm's
    `seeds`; scores of 1 are right and 0 wrong, or count the objects found."""

    example: int
    seeds: int
    scores: tuple[int, int]
    said: tuple[int, int] | None
    probabilities: tuple[float, float] | None
    boxes: tuple[tuple[Box, ...], tuple[Box, ...]] | None


@dataclass(frozen=True)
class Flips:
    """The most telling flips of a trial, or of all seeds of an arm: `lost` are those that float has right, `won` those
    that it has wrong, and `counts` the mean numbers of all of them among `examples`."""

    lost: tuple[Flip, ...]
    won: tuple[Flip, ...]
    counts: tuple[float, float]
    examples: int
    seeds: int


def outcomes(records: Sequence[Record], folders: Mapping[str, Path]) -> dict[str, tuple[Outcome, Outcome]]:
    """The outcomes of the float model and of the trial, by quantized trial, as far as both are right or wrong or are
    detectors' and lie in whole files; of large studies the first trials'."""
    baselines, found = Baselines(records), {}
    for record in records:
        other = baselines.float_(record)
        if record.recipe is None or other is None or len(found) >= MOST_TRIALS:
            continue
        threshold = other.metrics.get(THRESHOLD, USUAL_THRESHOLD)
        read = _reader(record.metric.name, threshold if math.isfinite(threshold) else USUAL_THRESHOLD)
        sides = [from_examples(read, folders[one.trial]) for one in (other, record)]
        if sides[0] is None or sides[1] is None or len(sides[0].score) != len(sides[1].score):
            continue
        found[record.trial] = (sides[0], sides[1])
        if sides[0].boxes is not None and len(found) >= MOST_DETECTORS:
            break
    return found


def flips(pairs: Sequence[tuple[Outcome, Outcome]]) -> Flips:
    """The flips of the seeds of an arm, or of one trial: first those of most seeds, then of the largest differences."""
    sizes = Counter(len(one.score) for one, _ in pairs)
    pairs = [pair for pair in pairs if len(pair[0].score) == sizes.most_common(1)[0][0]]
    lost = [one.score > other.score for one, other in pairs]
    won = [one.score < other.score for one, other in pairs]
    counts = tuple(float(np.mean([mask.sum() for mask in masks])) for masks in (lost, won))
    return Flips(_ranked(pairs, lost), _ranked(pairs, won), (counts[0], counts[1]), len(pairs[0][0].score), len(pairs))


def _ranked(
    pairs: Sequence[tuple[Outcome, Outcome]], masks: Sequence[Bool[np.ndarray, " examples"]]
) -> tuple[Flip, ...]:
    seeds = np.sum(masks, axis=0)
    size = np.sum([mask * np.abs(_change(*pair)) for pair, mask in zip(pairs, masks, strict=True)], axis=0)
    order = [int(i) for i in np.lexsort((-size, -seeds))[:SHOWN] if seeds[i]]
    return tuple(
        _flip(i, int(seeds[i]), *next(p for p, mask in zip(pairs, masks, strict=True) if mask[i])) for i in order
    )


def _change(one: Outcome, other: Outcome) -> Float[np.ndarray, " examples"]:
    if one.probability is not None and other.probability is not None:
        return other.probability - one.probability
    return (other.score - one.score).astype(np.float64)


def _flip(i: int, seeds: int, one: Outcome, other: Outcome) -> Flip:
    said = None if one.said is None or other.said is None else (int(one.said[i]), int(other.said[i]))
    known = one.probability is not None and other.probability is not None
    probabilities = (float(one.probability[i]), float(other.probability[i])) if known else None  # pyright: ignore
    boxes = None if one.boxes is None or other.boxes is None else (one.boxes[i], other.boxes[i])
    return Flip(i, seeds, (int(one.score[i]), int(other.score[i])), said, probabilities, boxes)


@functools.lru_cache(maxsize=64)
def _reader(metric: str, threshold: float) -> Callable[[Path], Outcome | None]:
    """A function from a trial's folder to its outcome; the same one for the same arguments, by which it is cached."""

    def read(folder: Path) -> Outcome | None:
        try:
            arrays = load_examples(folder)
        except (OSError, ValueError):
            return None
        return _detected(arrays, threshold) if all(name in arrays for name in FIELDS) else _judged(arrays, metric)

    return read


def _judged(arrays: Mapping[str, np.ndarray], metric: str) -> Outcome | None:
    right = arrays.get(metric)
    if right is None or right.ndim != 1 or not np.isin(right, (0, 1)).all():
        return None
    said, loss = arrays.get("prediction"), arrays.get("cross_entropy")
    return Outcome(
        right.astype(np.int16),
        said if said is not None and said.shape == right.shape and said.dtype.kind in "iu" else None,
        np.exp(-loss.astype(np.float32)) if loss is not None and loss.shape == right.shape else None,
    )


def _detected(arrays: Mapping[str, np.ndarray], threshold: float) -> Outcome | None:
    boxes, scores, labels, targets, true = (arrays[name] for name in FIELDS)
    if not (boxes.ndim == targets.ndim == 3 and scores.shape == labels.shape == boxes.shape[:2]):
        return None
    shared = _overlaps(boxes, targets) * (labels[:, :, None] == true[:, None]) * (true[:, None] >= 0)
    kept = (scores >= max(threshold, LEAST)) & (labels >= 0)
    hits = [_matched(shared[i] * kept[i][:, None], scores[i]) for i in range(len(boxes))]
    listed = tuple(
        tuple(_box(boxes[i, k], scores[i, k], labels[i, k], k in hits[i]) for k in np.flatnonzero(kept[i]))
        for i in range(len(boxes))
    )
    return Outcome(np.array([len(one) for one in hits], np.int16), boxes=listed)


def _matched(shared: Float[np.ndarray, "boxes objects"], scores: Float[np.ndarray, " boxes"]) -> set[int]:
    """The boxes that find an object, the most confident first, each object once."""
    order = np.argsort(-scores, kind="stable")
    (right,) = match(shared[order], np.array([OVERLAP]))
    return set(order[right].tolist())


def _overlaps(
    boxes: Float[np.ndarray, "images boxes 4"], targets: Float[np.ndarray, "images objects 4"]
) -> Float[np.ndarray, "images boxes objects"]:
    """IoU of every box with every object of its image."""
    a, b = boxes[:, :, None].astype(np.float64), targets[:, None].astype(np.float64)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    inside = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def _box(corners: np.ndarray, score: Any, label: Any, hit: bool) -> Box:
    x1, y1, x2, y2 = (round(float(side)) for side in corners)
    return x1, y1, x2, y2, round(float(score), 2), int(label), hit
