"""Simulated scans of a layout: edges that are rough, and a little beside where they are on another image."""

from typing import Any

import numpy as np

FINEST = 2  # pixels, the width of the lines and gaps that go
BLUR = 1.3  # pixels
OFFSET = 1.2  # pixels at most, on either axis
BORDER = 4  # pixels that a layout has more than an image, on every side
GRAIN = 2  # pixels, the radius over which the roughness is even
ROUGHNESS = 2.0
MOST = 90  # grey levels: at most that much roughness, so that it makes no specks
MIDDLE = 128


def blurred(layout: Any) -> Any:
    """The layout, a grey image of PIL, as a lens shows it, without lines and gaps too thin to be made."""
    from PIL import ImageFilter

    made = layout.filter(ImageFilter.BoxBlur(FINEST)).point([0] * MIDDLE + [255] * MIDDLE)
    return made.filter(ImageFilter.GaussianBlur(BLUR))


def scan(blurry: Any, rng: np.random.Generator) -> np.ndarray:
    """bool[size, size]: where there is copper, from a blurred layout with copper bright that is larger by `BORDER`."""
    from PIL import Image, ImageFilter

    size = (blurry.width - 2 * BORDER, blurry.height - 2 * BORDER)
    x, y = BORDER + rng.uniform(-OFFSET, OFFSET, 2)
    moved = blurry.transform(size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y), Image.Resampling.BILINEAR)
    grain = Image.frombytes("L", size, rng.bytes(size[0] * size[1])).filter(ImageFilter.BoxBlur(GRAIN))
    rough = np.clip((np.arange(256) - MIDDLE) * ROUGHNESS, -MOST, MOST).astype(np.int16)
    return np.asarray(moved) + rough[np.asarray(grain)] > MIDDLE
