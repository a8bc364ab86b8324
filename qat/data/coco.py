"""Images with boxes in any folder of COCO's format: one's own boards."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qat import data
from qat.data.dataset import Dataset
from qat.data.images.augment import Augmentation, Symmetry, check_fits
from qat.data.images.coco_files import Annotated, read_annotated
from qat.data.images.pictures import MODES, Colour, Picture, other_colours, picture_splits, sides
from qat.data.problems import IMAGES, Problem, check_bad, held, settle
from qat.data.source import fingerprint

FILES = ("annotations.json", "_annotations.coco.json")
FOLDERS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


@data.register
def coco(
    folder: str,
    size: int | tuple[int, int] = 640,
    held_out: float = 0.1,
    seed: int = 0,
    crop: int | None = None,
    bad: str = "refuse",
    colour: Colour = "auto",
    symmetry: Symmetry = "square",
    mosaic: float = 0.0,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    memory: float = 2.0,
) -> Dataset:
    """Images `image` uint8[height, width, 1 or 3] of one `size` (or `(height, width)`) with `boxes`, `labels` and
    `scale`, by which pixels are multiplied to be in [0, 1]; annotations in COCO's format (Lin et al. 2014).

    `folder` holds `annotations.json` and `images/`, or folders `train`, `val` and `test` that do, or `train`,
    `validation` and `test` name annotation files in it. A split that is not there is drawn from train by `seed`,
    `held_out` of it. What is larger than `size` shrinks, what is smaller is not enlarged; it stands in the upper left,
    grey around it. `boxes` float32[rows, 4] are (x1, y1, x2, y2) in pixels of `image`, 0 beyond the objects; `labels`
    int32[rows] count the categories in the order of their ids from 0, and are -1 beyond the objects. Boxes of crowds
    are left out. Images are grey or RGB, all of them; with `colour` "grey" or "rgb" others are converted.

    Training batches are cropped to `crop` pixels and turned or flipped by `symmetry` ("mirror" for pictures that have
    an upside), `mosaic` of them joined from four. With `bad` "drop" wrong boxes, and images that are missing or of
    another kind, are left out and listed on stderr; by default they are refused. Decoded images are kept where all
    take at most `memory` gigabytes.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"`held_out` must be in (0, 0.5), got {held_out}. It is the part of train for another split.")
    check_bad(bad, "annotations")
    shape = sides(size)
    augment = Augmentation(crop, symmetry, mosaic)
    check_fits(augment, shape)
    root = Path(folder).expanduser()
    named = {"train": train, "validation": validation, "test": test}
    read = {split: read_annotated(file, root) for split, file in _files(root, named).items()}
    classes = _common_classes(read)
    pictures, mode = _usable(read, colour, bad, folder)
    parts = _parts({split: len(pictures[split]) for split in pictures}, held_out, seed)
    chosen = {split: [pictures[source][i] for i in indices] for split, (source, indices) in parts.items()}
    content = (one.content for one in read.values())
    return Dataset(
        "coco",
        picture_splits(chosen, shape, mode, memory),
        classes=len(classes),
        input_shape=(*shape, len(mode)),
        fingerprint=fingerprint(*content, *(i for _, i in parts.values()), f"{shape} {mode}"),
        task=f"detection(class_names={classes!r})",
        augment=augment,
        class_names=classes,
    )


def _files(root: Path, named: Mapping[str, str | None]) -> dict[str, Path]:
    """The annotation file of each split that has one; train has."""
    given = {split: root / name for split, name in named.items() if name is not None}
    if given:
        missing = [str(path) for path in given.values() if not path.is_file()]
        if missing or "train" not in given:
            raise ValueError(f"`train`, and what else is named, must be files in {str(root)!r}, got {dict(named)}.")
        return given
    possible = {split: [root / one / name for one in FOLDERS[split] for name in FILES] for split in FOLDERS}
    found = {split: next(filter(Path.is_file, paths), None) for split, paths in possible.items()}
    found["train"] = found["train"] or next(filter(Path.is_file, (root / name for name in FILES)), None)
    if found["train"] is None:
        raise ValueError(
            f"`folder` must hold annotations.json or train/annotations.json, got {str(root)!r}: {held(root)}. "
            "Name annotation files by `train`, `validation` and `test` where they are called otherwise."
        )
    return {split: path for split, path in found.items() if path is not None}


def _common_classes(read: Mapping[str, Annotated]) -> tuple[str, ...]:
    classes = {split: dict(one.classes) for split, one in read.items()}
    if any(one != classes["train"] for one in classes.values()):
        raise ValueError(f"`categories` must be the same in the annotations of all splits, got {classes}.")
    return tuple(classes["train"].values())


def _usable(
    read: Mapping[str, Annotated], colour: Colour, bad: str, folder: str
) -> tuple[dict[str, Sequence[Picture]], str]:
    """The pictures of each split, and the mode of PIL that all are to have; the others are refused or dropped."""
    everything = [picture for one in read.values() for picture in one.pictures]
    kind, others = other_colours(everything, colour)
    problems = [problem for one in read.values() for problem in one.problems]
    problems += [Problem(picture.where, wrong) for picture, wrong in others]
    settle(problems, bad, folder, IMAGES)
    crowds = sum(one.crowds for one in read.values())
    if crowds:
        sys.stderr.write(f"Boxes of crowds left out in {folder}: {crowds}\n")
    unusable = {picture.path for picture, _ in others}
    return {s: [p for p in one.pictures if p.path not in unusable] for s, one in read.items()}, MODES[kind]


def _parts(counts: Mapping[str, int], held_out: float, seed: int) -> dict[str, tuple[str, np.ndarray]]:
    """The source and the indices of each split."""
    missing = [split for split in ("validation", "test") if split not in counts]
    order = np.random.default_rng(seed).permutation(counts["train"])
    each = max(1, round(held_out * len(order)))
    drawn = {split: order[i * each : (i + 1) * each] for i, split in enumerate(missing)}
    if len(order) <= each * len(missing) or not all(counts.values()):
        raise ValueError(f"`folder` must hold images for train, validation and test, got {dict(counts)}.")
    parts = {split: ("train", np.sort(indices)) for split, indices in drawn.items()}
    parts["train"] = ("train", np.sort(order[each * len(missing) :]))
    present = {split: (split, np.arange(count)) for split, count in counts.items() if split != "train"}
    return {split: {**parts, **present}[split] for split in ("train", "validation", "test")}
