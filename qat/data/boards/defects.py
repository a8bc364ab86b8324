"""The six kinds of defects, each drawn where a board can have it."""

from collections.abc import Callable

import numpy as np

from qat.data.boards.pen import MIDDLE, blob, depth, line, normal

LEAST = 30  # pixels that a defect changes at least
PIECE = 60  # pixels that a part of the copper has at least, to count as one
REACH = 46.0  # pixels that a short or an open bridges at most
FREE = 4  # pixels between a spot or a hole and the next edge
NEAR = 3.0  # pixels from the edge at which copper and bare board are certain

type Defect = Callable[[np.ndarray, np.random.Generator], np.ndarray | None]
"""From the copper of a patch, bool[patch, patch], to that with a defect at its middle; None where there can be none."""


def open_(copper: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A trace that is cut through (from an edge)."""
    out = normal(copper)
    across = depth(copper, -out, NEAR) + NEAR
    if not out.any() or not NEAR + 1 < across < REACH:
        return None
    changed = copper & ~_bridge(-out, across, rng)
    return changed if _parts(changed) > _parts(copper) else None


def short(copper: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Two conductors that are joined (from an edge)."""
    out = normal(copper)
    across = depth(~copper, out, NEAR) + NEAR
    if not out.any() or not NEAR + 1 < across < REACH:
        return None
    changed = copper | _bridge(out, across, rng)
    return changed if _parts(changed) < _parts(copper) else None


def mousebite(copper: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """An edge that is bitten into, less than through (from an edge)."""
    out = normal(copper)
    across = min(depth(copper, -out, NEAR) + NEAR, 30.0)
    size = min(rng.uniform(9, 20), 1.2 * across)
    changed = copper & ~blob(rng, MIDDLE - out * rng.uniform(0, 0.25) * size, size)
    return changed if out.any() and size >= 6 and _parts(changed, 1) == _parts(copper, 1) else None


def spur(copper: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Copper that grows out of an edge, less than to the next (from an edge)."""
    out = normal(copper)
    free = min(depth(~copper, out, NEAR) + NEAR, 40.0)
    length = min(rng.uniform(6, 18), 0.7 * free)
    if not out.any() or length < 5:
        return None
    if rng.random() < 0.4:
        changed = copper | blob(rng, MIDDLE + out * 0.3 * length, 1.3 * length)
    else:
        side = rng.uniform(-0.6, 0.6) * np.array([-out[1], out[0]])
        points = MIDDLE + np.stack([-3 * out, length * 0.6 * out, length * (out + side)])
        changed = copper | line(points, rng.uniform(4, 8))
    return changed if _parts(changed, 1) == _parts(copper, 1) and _parts(~changed) == _parts(~copper) else None


def spot(copper: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Copper by itself where there is to be none."""
    added = _inside(~copper, rng.uniform(9, 24), rng)
    return None if added is None else copper | added


def pin_hole(copper: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A hole where there is to be copper."""
    removed = _inside(copper, rng.uniform(8, 21), rng)
    return None if removed is None else copper & ~removed


DEFECTS: tuple[Defect, ...] = (open_, short, mousebite, spur, spot, pin_hole)
"""In the order of DeepPCB's classes."""


def _bridge(direction: np.ndarray, across: float, rng: np.random.Generator) -> np.ndarray:
    """A stroke from behind the middle to behind what is `across` pixels away, slanted and bent a little."""
    side = np.array([-direction[1], direction[0]]) * min(5, across / 4)
    part = np.linspace(0, 1, 7)[:, None]
    away = rng.normal() * (part - 0.5) + rng.normal() * 4 * part * (1 - part)
    return line(MIDDLE + (part * (across + 6) - 3) * direction + away * side, rng.uniform(3, 4 + across / 4))


def _inside(mask: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray | None:
    """A blob around which the mask is true; None where it is not."""
    half = int(size / 3)
    if not mask[MIDDLE - half : MIDDLE + half, MIDDLE - half : MIDDLE + half].all():
        return None
    shape = blob(rng, np.full(2, MIDDLE), size)
    y, x = np.nonzero(shape)
    around = mask[y.min() - FREE : y.max() + 1 + FREE, x.min() - FREE : x.max() + 1 + FREE]
    return shape if around.all() else None


def _parts(mask: np.ndarray, least: int = PIECE) -> int:
    """Count a mask's connected parts of at least `least` pixels."""
    from scipy import ndimage

    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    return int((np.bincount(labels.ravel())[1:] >= least).sum())
