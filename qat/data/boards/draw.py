"""A board with defects beside its template, drawn from a seed."""

import numpy as np

from qat.data.boards.copper import copper
from qat.data.boards.defects import DEFECTS, LEAST
from qat.data.boards.pen import MIDDLE, PATCH
from qat.data.boards.scan import BORDER, blurred, scan
from qat.data.images.pictures import Objects

MARGIN = 10  # pixels around a defect that belong to its box, as in DeepPCB
EDGE = 4  # pixels along the image's edge without defects
APART = 6  # pixels at least between two defects, on one axis
TRIES = 60
FEWEST, MOST, SIDE = 3, 10, 640  # defects on a board of that many pixels a side


def most_defects(size: int) -> int:
    """The largest number of defects on a board of `size` pixels a side."""
    return max(1, round(MOST * size / SIDE))


def board(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Objects]:
    """The board and its template, bool[size, size] and true where there is background, and the defects.

    A box is the smallest that holds all pixels which the defect changes, and `MARGIN` pixels around, less what would
    be outside of the image. Labels are DeepPCB's.
    """
    blurry = blurred(copper(size + 2 * BORDER, rng))
    template, clean = scan(blurry, rng), scan(blurry, rng)
    count = rng.integers(max(1, round(FEWEST * size / SIDE)), most_defects(size), endpoint=True)
    defective, objects = add_defects(clean, int(count), rng)
    return ~defective, ~template, objects


def add_defects(clean: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, Objects]:
    """The copper with up to `count` defects, fewer where it has no room for them, and where they are."""
    size = len(clean)
    padded = np.pad(clean, MIDDLE, mode="edge")
    places = _places(clean)
    bounds, labels = [], []
    for kind in rng.integers(0, len(DEFECTS), count):
        found = _add(padded, kind, places[kind], bounds, rng)
        if found is not None:
            bounds.append(found)
            labels.append(kind)
    boxes = np.clip(np.reshape(bounds, (-1, 4)) + np.array([-1, -1, 1, 1]) * MARGIN, 0, size)
    return padded[MIDDLE:-MIDDLE, MIDDLE:-MIDDLE], Objects.of(boxes, labels)


def _add(
    padded: np.ndarray, kind: int, places: np.ndarray, others: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray | None:
    """Draw a defect at one of the places, and say where it changed pixels; None where there was no room."""
    size = len(padded) - 2 * MIDDLE
    for _ in range(TRIES if len(places) else 0):
        y, x = divmod(int(rng.choice(places)), size)
        patch = padded[y : y + PATCH, x : x + PATCH]
        changed = DEFECTS[kind](patch, rng)
        if changed is None:
            continue
        found = _bounds(changed ^ patch) + np.array([x, y, x, y]) - MIDDLE
        if _fits(found, others, size):
            patch[:] = changed
            return found
    return None


def _places(clean: np.ndarray) -> list[np.ndarray]:
    """The pixels at which a defect of each kind may begin, as indices into the image as a row."""
    edges = np.zeros_like(clean)
    edges[1:, 1:] = (clean[1:, 1:] != clean[:-1, 1:]) | (clean[1:, 1:] != clean[1:, :-1])
    at_edges, bare, copper = (np.flatnonzero(mask) for mask in (edges, ~clean, clean))
    return [at_edges] * 4 + [bare, copper]


def _bounds(mask: np.ndarray) -> np.ndarray:
    """The smallest box (x1, y1, x2, y2) that holds the true pixels; empty where those are too few for a defect."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) >= LEAST else np.zeros(4, int)


def _fits(found: np.ndarray, others: list[np.ndarray], size: int) -> bool:
    x1, y1, x2, y2 = found
    inside = min(x1, y1) >= EDGE and max(x2, y2) <= size - EDGE and x2 > x1
    return inside and all(max(x1 - other[2], other[0] - x2, y1 - other[3], other[1] - y2) >= APART for other in others)
