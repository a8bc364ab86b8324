"""Which point is to predict which object: centre sampling (Tian et al. 2019, FCOS, arXiv 1904.01355)."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from qat.detection.boxes import area, sides

LONGEST = 4  # times the shorter side, at most, is what counts of the longer one


@dataclass(frozen=True)
class Assigner:
    """A point stands for an object where it lies inside its box, at most `radius` strides from its centre on either
    axis, on the object's level; of several objects the smallest counts, of equal ones the nearest.

    An object's level is the finest whose stride times `largest` is not less than its longer side, or the coarsest. Of
    a long and thin object only four times the shorter side counts, so that it is never thinner than a cell of a level
    above the finest. With `largest` 8 every box whose sides are above the finest stride has a point, unless
    smaller ones take them all.
    """

    radius: float = 1.5
    largest: float = 8.0

    def __call__(
        self,
        centres: Float[Array, "points 2"],
        strides: Float[Array, " points"],
        boxes: Float[Array, "objects 4"],
        present: Bool[Array, " objects"],
    ) -> tuple[Int32[Array, " points"], Bool[Array, " points"]]:
        """For each point the object that it stands for, and whether it stands for one."""
        (x, y), (x1, y1, x2, y2) = centres.T[:, :, None], boxes.T
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
        away = jnp.maximum(jnp.abs(x - (x1 + x2) / 2), jnp.abs(y - (y1 + y2) / 2)) / strides[:, None]
        fits = inside & (away <= self.radius) & self._on_level(boxes, strides) & present
        size = jnp.where(fits, area(boxes), jnp.inf)
        smallest = fits & (size <= size.min(1, keepdims=True))
        return jnp.where(smallest, away, jnp.inf).argmin(1).astype(jnp.int32), fits.any(1)

    def _on_level(
        self, boxes: Float[Array, "objects 4"], strides: Float[Array, " points"]
    ) -> Bool[Array, "points objects"]:
        size = sides(boxes)
        length = jnp.minimum(size.max(-1), LONGEST * size.min(-1)) / strides[:, None]
        above = (length > self.largest / 2) | (strides == strides.min())[:, None]
        below = (length <= self.largest) | (strides == strides.max())[:, None]
        return above & below
