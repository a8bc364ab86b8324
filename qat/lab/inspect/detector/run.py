"""`detect`: a trained detector on image files, with pictures and results written to a folder."""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qat.data.images.reading import read_all
from qat.fileio import write_atomically
from qat.lab.inspect.detector.coco_results import entries, ids_of, own_ids
from qat.lab.inspect.detector.draw import differing, draw, draw_beside, shown
from qat.lab.inspect.detector.images import Shot, find_images, read_shot
from qat.lab.inspect.detector.load import Detector, load_detector, load_float_stage
from qat.tasks.detection.decode import Detections

RESULTS_FILE = "results.json"
OWN_FLOAT = "float"


@dataclass(frozen=True)
class Detected:
    """The files that were written: a picture for each image, and all detections in `results`. `counts` are the numbers
    of detections on each picture, with a score of at least `threshold`; `differing` the number without a counterpart in
    the other detector's.
    """

    pictures: list[Path]
    results: Path
    threshold: float
    counts: list[int]
    differing: list[int]


def detect(
    model: str | Path,
    images: Sequence[Path],
    out: Path,
    *,
    template: Path | None = None,
    compare: str | Path | None = None,
    threshold: float | None = None,
    annotations: Path | None = None,
    convert: bool = False,
    trust: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Detected:
    """Run the detector of the trial in the folder `model` on files or folders of `images`.

    `out` gets NAME.png of each image with the detections of a score of at least `threshold` (by default that of the
    trial's best F-score), and results.json with all of them as COCO's results, with the ids of `annotations` where that
    file is given. `template` is the defect-free twin of the boards, or a folder of twins, where they are not beside
    them as NAME_temp; `compare` is another trial's folder, or "float" for the float model that this one was made from,
    whose detections are drawn beside these. With `convert` images of other colours than in training are converted; with
    `trust` files are run that the trial's study names outside of the current project. `report(done, count)` is told of
    each image. Everything is checked before anything is written; what is wrong is a `ValueError`.
    """
    files, detector = find_images(images), load_detector(model, trust=trust)
    other, about = _other(model, detector, compare, trust), detector.signature
    limit = _limit(detector, threshold)
    ids = own_ids(files, about) if annotations is None else ids_of(annotations, files, about)

    def read(index: int) -> Shot:
        return read_shot(files[index], about, template, convert)

    def check(index: int) -> None:
        read(index)

    read_all(check, len(files), "Checking images")
    pictures, rows, told = _prepared(out, files), [], []
    for index, picture in enumerate(pictures):
        shot = read(index)
        found = _found(detector, shot)
        rows += entries(files[index], found, ids)
        told.append(_draw(picture, shot, detector, found, other, limit))
        if report:
            report(index + 1, len(files))
    write_atomically(out / RESULTS_FILE, json.dumps(rows) + "\n")
    return Detected(pictures, out / RESULTS_FILE, limit, *map(list, zip(*told, strict=True)))


def _limit(detector: Detector, threshold: float | None) -> float:
    limit = detector.threshold if threshold is None else threshold
    if not 0 <= limit <= 1:
        raise ValueError(f"`threshold` must be in [0, 1], got {limit}. It is the least score that is drawn.")
    return limit


def _other(model: str | Path, detector: Detector, compare: str | Path | None, trust: bool) -> Detector | None:
    if compare is None:
        return None
    load, folder = (load_float_stage, model) if compare == OWN_FLOAT else (load_detector, compare)
    other = load(folder, trust=trust)
    if other.signature != detector.signature:
        raise ValueError(
            f"`compare` must be a detector of the same classes and images, but {str(compare)!r} has "
            f"{other.signature} and {str(model)!r} {detector.signature}."
        )
    return other


def _prepared(out: Path, files: Sequence[Path]) -> list[Path]:
    """The picture of each file in the folder `out`, which is made where missing; no two alike, and none of an image."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` must be a folder, but {str(out)!r} is a file. Choose another.")
    often = Counter(path.stem for path in files)
    named = [f"{path.stem}{f'-{number}' if often[path.stem] > 1 else ''}" for number, path in enumerate(files, 1)]
    if len(set(named)) < len(named):
        named = [f"{number}-{path.stem}" for number, path in enumerate(files, 1)]
    pictures = [out / f"{name}.png" for name in named]
    if lost := {path.resolve() for path in pictures} & {path.resolve() for path in files}:
        raise ValueError(f"`out` must be another folder than the images': {min(lost).name} would be overwritten.")
    out.mkdir(parents=True, exist_ok=True)
    return pictures


def _found(detector: Detector, shot: Shot) -> Detections:
    """Detections in pixels of the file."""
    found = detector.find(shot.image)
    return found._replace(boxes=found.boxes / np.array(2 * shot.factors, np.float32))


def _draw(
    path: Path, shot: Shot, detector: Detector, found: Detections, other: Detector | None, threshold: float
) -> tuple[int, int]:
    """Write the picture; how many detections are on it, and how many of both detectors' have no counterpart."""
    about, count = detector.signature, int(shown(found, threshold).sum())
    names, alone = [about.name(label) for label in range(about.classes)], 0
    if other is None:
        caption = f"{detector.name}: {count} found with a score of {threshold:.2f} or more"
        picture = draw(shot.shown, found, names, threshold=threshold, caption=caption)
    else:
        theirs = _found(other, shot)
        alone = int(sum(mask.sum() for mask in differing(theirs, found, threshold)))
        both = (other.name, theirs), (detector.name, found)
        picture = draw_beside(shot.shown, *both, names, threshold=threshold)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    write_atomically(path, buffer.getvalue())
    return count, alone
