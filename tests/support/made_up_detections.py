"""Detections made up for tests of metrics and reports."""

import numpy as np

from qat.tasks.detection.resample import FIELDS

CLASSES = 4


def made_up(images=20, detections=30, objects=6, decimals=2, seed=0):
    """Detections near objects, some missed, some of another class, some of nothing, and some of equal scores."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 500, (images, objects, 2))
    true = np.concatenate([corner, corner + rng.uniform(15, 60, (images, objects, 2))], -1)
    labels = rng.integers(-1, CLASSES, (images, objects))
    near = true[:, rng.integers(0, objects, detections)] + rng.normal(0, 4, (images, detections, 4))
    of = np.take_along_axis(labels, rng.integers(0, objects, (images, detections)), 1)
    kind = np.where(rng.random((images, detections)) < 0.7, of, rng.integers(-1, CLASSES, (images, detections)))
    score = np.round(rng.random((images, detections)), decimals)
    order = np.argsort(-score, 1)
    taken = [np.take_along_axis(one, order, 1) for one in (score, kind)]
    near = np.take_along_axis(near, order[..., None], 1)
    return dict(zip(FIELDS, (near, *taken, true, labels), strict=True))
