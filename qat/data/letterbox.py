"""Images of any size in one size, their pixels square as before."""

from typing import Any

import numpy as np

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
    """What x and y are multiplied by when an image is put into `size` (height, width).

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
