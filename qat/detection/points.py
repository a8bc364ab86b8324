"""The points that a detector predicts at: the cells of its feature maps, and boxes as distances from their centres."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

STRIDES = (8, 16, 32)  # pixels of a cell's side, level by level


def points(
    height: int, width: int, strides: Sequence[int] = STRIDES
) -> tuple[Float[Array, "points 2"], Float[Array, " points"]]:
    """Centres (x, y) and strides in pixels of all cells: finest level first, each level row by row.

    Raises `ValueError` where the cells of a level do not fill the image.
    """
    if not strides or any(side < 1 or side % stride for side in (height, width) for stride in strides):
        raise ValueError(
            f"`height` and `width` must be multiples of the strides {tuple(strides)}, got {height} and {width}. "
            "Crop or pad the images."
        )
    centres, sizes = [], []
    for stride in strides:
        y, x = np.meshgrid(np.arange(height // stride), np.arange(width // stride), indexing="ij")
        centres.append((np.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        sizes.append(np.full(x.size, stride))
    return jnp.asarray(np.concatenate(centres), jnp.float32), jnp.asarray(np.concatenate(sizes), jnp.float32)


def to_boxes(centres: Float[Array, "points 2"], distances: Float[Array, "*b points 4"]) -> Float[Array, "*b points 4"]:
    """Boxes from the distances in pixels of their left, top, right and bottom sides from the points (Tian et al. 2019,
    FCOS, arXiv 1904.01355)."""
    return jnp.concatenate([centres - distances[..., :2], centres + distances[..., 2:]], -1)
