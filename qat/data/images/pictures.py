"""Image files of many sizes as the examples of a detector: one colour, one size, boxes moved along."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from qat.data.images.reading import Header, Lazy, broken, open_image, read_all
from qat.data.source import Columns, Example, Source

NOTHING = -1  # the label of a row without an object
ROUNDING = 1.0  # pixels by which a box in fractions of a pixel may pass the edge of its image


@dataclass(frozen=True)
class Objects:
    """The objects on one image: float32[n, 4] corners (x1, y1, x2, y2) in pixels, and int32[n] labels from 0."""

    boxes: np.ndarray
    labels: np.ndarray

    @staticmethod
    def of(boxes: ArrayLike, labels: ArrayLike) -> "Objects":
        """From anything like arrays, which may be empty."""
        return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32))


def wrong_box(box: Sequence[float], width: float, height: float, tolerance: float = 0.0) -> str | None:
    """Why (x1, y1, x2, y2) is no box on an image of that size; None where it is one.

    It may pass the edges by `tolerance` pixels.
    """
    x1, y1, x2, y2 = box
    text = f"({', '.join(f'{side:g}' for side in box)})"
    if not all(math.isfinite(side) for side in box):
        return f"box {text} has sides that are not finite"
    if x2 <= x1 or y2 <= y1:
        return f"box {text} has no area: expected x1 < x2 and y1 < y2"
    if min(x1, y1) < -tolerance or x2 > width + tolerance or y2 > height + tolerance:
        return f"box {text} reaches outside the image of {width:g} x {height:g} pixels"
    return None


def most(objects: Sequence[Objects]) -> int:
    """The largest number of objects on an image, at least 1."""
    return max([1, *(len(one.labels) for one in objects)])


def padded(objects: Sequence[Objects], rows: int) -> dict[str, np.ndarray]:
    """`boxes` float32[images, rows, 4], 0 beyond the objects, and `labels` int32[images, rows], there -1."""
    boxes = np.zeros((len(objects), rows, 4), np.float32)
    labels = np.full((len(objects), rows), NOTHING, np.int32)
    for image, one in enumerate(objects):
        boxes[image, : len(one.labels)], labels[image, : len(one.labels)] = one.boxes, one.labels
    return {"boxes": boxes, "labels": labels}


type Colour = Literal["auto", "grey", "rgb"]
MODES = {"grey": "L", "rgb": "RGB"}
KINDS = {"1": "grey", "L": "grey", "RGB": "rgb"}
CONVERTIBLE = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # modes of PIL with at most 8 bits a channel
DEPTH = "expected at most 8 bits a channel"
SCALE = np.float32(1 / 255)


@dataclass(frozen=True)
class Picture:
    """An image file, its header, where it is named, and what is on it, in pixels of the file."""

    path: Path
    header: Header
    where: str
    objects: Objects


@dataclass(frozen=True)
class Pictures:
    """Examples decoded whenever they are asked for, in a `size` (height, width) and a mode of PIL."""

    pictures: Sequence[Picture]
    size: tuple[int, int]
    mode: str
    rows: int

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Example:
        objects = {name: column[0] for name, column in self.objects([self.pictures[index]]).items()}
        return {"image": self.pixels(index), "scale": np.asarray(SCALE), **objects}

    def pixels(self, index: int) -> np.ndarray:
        """uint8[height, width, channels]. Raises `ValueError` where the file is broken."""
        path = self.pictures[index].path
        try:
            with open_image(path) as image:
                return letterbox(image.convert(self.mode), self.size)
        except broken() as error:
            raise ValueError(f"{path}: the image cannot be read: {error}. Replace it, or leave it out.") from error

    def objects(self, pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
        """`boxes` and `labels` of some of the pictures, boxes where they are in the new size."""
        scales = [np.tile(factors(one.header.width, one.header.height, self.size), 2) for one in pictures]
        moved = [Objects.of(one.objects.boxes * s, one.objects.labels) for one, s in zip(pictures, scales, strict=True)]
        return padded(moved, self.rows)

    def decoded(self, what: str) -> Lazy:
        """The examples, decoded once and held in memory; `what` names them while they are read."""

        def read() -> Columns:
            images = np.empty((len(self), *self.size, len(self.mode)), np.uint8)

            def read_one(index: int) -> None:
                images[index] = self.pixels(index)

            read_all(read_one, len(self), what)
            scale = np.full(len(self), SCALE)
            return Columns({"image": images, "scale": scale, **self.objects(self.pictures)})

        return Lazy(len(self), read)


def picture_splits(
    splits: Mapping[str, Sequence[Picture]], size: tuple[int, int], mode: str, memory: float
) -> dict[str, Source]:
    """Sources of the splits, which keep what they decode where all of it takes at most `memory` gigabytes."""
    rows = most([picture.objects for pictures in splits.values() for picture in pictures])
    sources = {name: Pictures(pictures, size, mode, rows) for name, pictures in splits.items()}
    needed = sum(map(len, splits.values())) * size[0] * size[1] * len(mode)
    if needed > memory * 1e9:
        return dict(sources)
    return {name: source.decoded(f"Reading {name} images") for name, source in sources.items()}


def other_colours(pictures: Sequence[Picture], colour: Colour) -> tuple[str, list[tuple[Picture, str]]]:
    """Choose grey or rgb for the pictures; also returns those that cannot be converted to it, with the reason."""
    modes = [picture.header.mode for picture in pictures]
    if colour == "auto":
        counts = Counter(KINDS[mode] for mode in modes if mode in KINDS)
        kind = max(("rgb", "grey"), key=lambda one: counts[one])
        usable = [mode for mode in KINDS if KINDS[mode] == kind]
        remedy = f"expected {kind} like most; pass colour='grey' or 'rgb' to convert"
    elif colour in MODES:
        kind, usable, remedy = colour, list(CONVERTIBLE), DEPTH
    else:
        raise ValueError(f"`colour` must be 'auto', 'grey' or 'rgb', got {colour!r}.")
    others = zip(pictures, modes, strict=True)
    return kind, [(picture, f"{remedy}, got mode {mode}") for picture, mode in others if mode not in usable]


MULTIPLE = 32  # the coarsest stride of the detectors
FILL = 114  # the grey level of what is added (Jocher 2020, YOLOv5)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a `size` that a user gave. Raises `ValueError` where detectors cannot take it."""
    height, width = (size, size) if isinstance(size, int) else size
    if height < MULTIPLE or width < MULTIPLE or height % MULTIPLE or width % MULTIPLE:
        raise ValueError(
            f"`size` must be a multiple of {MULTIPLE} pixels, or two of them as (height, width), got {size}."
        )
    return height, width


def factors(width: int, height: int, size: tuple[int, int]) -> tuple[float, float]:
    """The factors by which x and y are multiplied when an image is put into `size` (height, width).

    Both are nearly the same and at most 1: what is too large shrinks, what is small is not enlarged.
    """
    factor = min(1.0, size[0] / height, size[1] / width)
    return max(1, round(width * factor)) / width, max(1, round(height * factor)) / height


def letterbox(image: Any, size: tuple[int, int]) -> np.ndarray:
    """uint8[height, width, channels]: a grey or RGB image of PIL in the upper left of `size`, grey around it."""
    from PIL import Image

    x, y = factors(image.width, image.height, size)
    if (x, y) != (1.0, 1.0):
        image = image.resize((round(image.width * x), round(image.height * y)), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    whole = np.full((*size, pixels.shape[2]), FILL, np.uint8)
    whole[: image.height, : image.width] = pixels
    return whole
