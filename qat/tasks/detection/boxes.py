"""Boxes as (x1, y1, x2, y2) in pixels: areas, overlaps, and the overlap that trains."""

from collections.abc import Sequence

import jax
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


EPSILON = 1e-7
LEAST_SIDE = 1.0  # pixels; a thinner side counts as this in the aspect ratio, whose gradient would grow without bound


def sides(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 2"]:
    """Width and height; 0 where a box is inside out."""
    return jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)


def area(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Width times height; 0 where a box is inside out."""
    size = sides(boxes)
    return size[..., 0] * size[..., 1]


def intersection(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """The area that two boxes share; leading axes broadcast."""
    low, high = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    return area(jnp.concatenate([low, high], -1))


def iou(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Intersection over union, in [0, 1], 0 for two boxes without an area; leading axes broadcast."""
    shared = intersection(a, b)
    return shared / jnp.maximum(area(a) + area(b) - shared, EPSILON)


def pairwise_iou(a: Float[Array, "n 4"], b: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """`iou` of every box of `a` with every one of `b`."""
    return iou(a[:, None], b[None])


def ciou(a: Float[Array, "*n 4"], b: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Complete IoU (Zheng et al. 2020, arXiv 1911.08287): IoU less the distance of the centres and the difference of
    the aspect ratios, in (-2, 1]. `1 - ciou` is a loss that also pulls boxes which do not overlap."""
    overlap = iou(a, b)
    enclosing = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    diagonal = (enclosing**2).sum(-1) + EPSILON
    distance = ((a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) ** 2).sum(-1) / 4
    aspect = (4 / jnp.pi**2) * (_angle(a) - _angle(b)) ** 2
    weight = jax.lax.stop_gradient(aspect / jnp.maximum(1 - overlap + aspect, EPSILON))
    return overlap - distance / diagonal - weight * aspect


def _angle(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    size = jnp.maximum(sides(boxes), LEAST_SIDE)
    return jnp.arctan2(size[..., 0], size[..., 1])
