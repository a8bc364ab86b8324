"""Image files of many sizes as the examples of a detector: one colour, one size, boxes moved along."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from qat.data.annotations import Objects, most, padded
from qat.data.letterbox import factors, letterbox
from qat.data.reading import Header, Lazy, broken, open_image, read_all
from qat.data.source import Columns, Example, Source

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
        """The same examples, decoded once and kept; `what` names them while they are read."""

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
    """Which of grey and rgb the pictures are to be, and those that are not and cannot be made so, with the reason."""
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
