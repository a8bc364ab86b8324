"""Detections as COCO's results: one entry a box, with ids of images and classes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qat.lab.runs.manifest import Signature
from qat.tasks.detection.decode import Detections


@dataclass(frozen=True)
class Ids:
    """`images` are ids by file, `categories` by label."""

    images: Mapping[Path, int]
    categories: Sequence[int]


def own_ids(files: Sequence[Path], about: Signature) -> Ids:
    """Images count from 1 in order, classes are labels plus 1."""
    return Ids({path: i for i, path in enumerate(files, 1)}, range(1, about.classes + 1))


def ids_of(annotations: Path, files: Sequence[Path], about: Signature) -> Ids:
    """Read the ids that a COCO annotation file gives to images and classes. Raises `ValueError` where its classes are
    not the detector's, or where it has no entry of an image's name, or several.
    """
    content = _content(annotations)
    categories = {str(one["name"]): int(one["id"]) for one in content["categories"]}
    theirs = [str(one["name"]) for one in content["categories"]]
    known = [about.name(label) for label in range(about.classes)]
    if sorted(theirs) != sorted(known):
        raise ValueError(
            f"{str(annotations)!r} has the classes {', '.join(theirs)}, but the detector was trained on "
            f"{', '.join(known)}. Both must have the same."
        )
    named = [(str(one["file_name"]), int(one["id"])) for one in content["images"]]
    return Ids({path: _image_id(path, named, annotations) for path in files}, [categories[name] for name in known])


def entries(path: Path, found: Detections, ids: Ids) -> list[dict[str, Any]]:
    """The detections on one image, the best first: boxes as (x, y, width, height) in pixels."""
    boxes = np.asarray(found.boxes, np.float64)
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], -1).round(2).tolist()
    rows = zip(sizes, np.asarray(found.scores).tolist(), np.asarray(found.labels).tolist(), strict=True)
    return [
        {
            "image_id": ids.images[path],
            "file_name": path.name,
            "category_id": ids.categories[label],
            "bbox": box,
            "score": round(score, 5),
        }
        for box, score, label in rows
        if label >= 0
    ]


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`annotations` must be a file in COCO's format, but {str(path)!r} is not: {error}."
        ) from error
    if not (_has(content, "images", {"id", "file_name"}) and _has(content, "categories", {"id", "name"})):
        raise ValueError(
            f"`annotations` must be in COCO's format, but {str(path)!r} has no lists of images with `id` and "
            "`file_name`, and of categories with `id` and `name`."
        )
    return content


def _has(content: Any, name: str, keys: set[str]) -> bool:
    listed = content.get(name) if isinstance(content, dict) else None
    return isinstance(listed, list) and all(isinstance(one, dict) and keys <= one.keys() for one in listed)


def _image_id(path: Path, named: Sequence[tuple[str, int]], annotations: Path) -> int:
    parts = path.absolute().parts
    fitting = [one for name, one in named if parts[-len(Path(name).parts) :] == Path(name).parts]
    if len(fitting) != 1:
        raise ValueError(f"{str(annotations)!r} must have one entry for {str(path)!r}, but has {len(fitting)}.")
    return fitting[0]
