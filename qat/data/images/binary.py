"""Binary images: from files, and in memory with one bit a pixel and channel, unpacked as they are asked for."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qat.data.images.reading import broken, open_image
from qat.data.source import Columns, Example

LEVEL = 128  # grey levels from here on are 1
GREY = slice(64, 192)  # levels of which a binarised image has hardly any
MOST_GREY = 0.05


@dataclass(frozen=True)
class BinaryImages:
    """`count` examples whose `image` is uint8 of `shape` (height, width, channels) with values 0 and 1.

    `read()` gives all fields at once, `image` as `pack` packs it; called once, at first use.
    """

    count: int
    shape: tuple[int, int, int]
    read: Callable[[], Columns]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        example = self.columns[index]
        return {**example, "image": np.unpackbits(example["image"], axis=-1).reshape(self.shape)}

    @cached_property
    def columns(self) -> Columns:
        """The columns that were read, images still packed."""
        return self.read()


def pack(board: np.ndarray, template: np.ndarray | None) -> np.ndarray:
    """uint8[height, width * channels / 8] of boolean images: the board, and with a template where the two differ."""
    channels = [board] if template is None else [board, board ^ template]
    return np.packbits(np.stack(channels, -1).reshape(len(board), -1), axis=-1)


def binary(file: Path | io.BytesIO, where: str) -> np.ndarray:
    """bool[height, width]: where the image in a file is white. Raises `ValueError` if it is broken or not binarised."""
    try:
        with open_image(file) as image:
            grey = image.convert("L")
    except broken() as error:
        raise ValueError(f"{where}: the image cannot be read: {error}. Replace it, or take it off its list.") from error
    part = sum(grey.histogram()[GREY]) / (grey.width * grey.height)
    if part > MOST_GREY:
        raise ValueError(
            f"{where}: expected a binarised image, but {part:.0%} of its pixels are between black and white. "
            "Binarise the images, or use the data set `coco` for grey ones."
        )
    return np.asarray(grey) >= LEVEL
