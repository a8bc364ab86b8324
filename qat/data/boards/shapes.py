"""Shapes of defects, as masks of a patch around its middle, and what is found on the way from there."""

import numpy as np

PATCH = 96  # pixels
MIDDLE = PATCH // 2


def blob(rng: np.random.Generator, centre: np.ndarray, size: float) -> np.ndarray:
    """bool[patch, patch]: a spot, a worm or a cluster of dots at (x, y), about `size` pixels across."""
    kind = rng.integers(3)
    if kind == 0:
        half = size / 2 * rng.uniform(0.7, 1.2, 2)
        return _drawn(lambda draw: draw.ellipse((*(centre - half), *(centre + half)), 1))
    if kind == 1:
        turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(-0.9, 0.9, 4))
        steps = np.stack([np.cos(turns), np.sin(turns)], -1) * size / 4
        points = np.cumsum(steps, 0)
        return line(centre + points - points.mean(0), rng.uniform(0.25, 0.5) * size)
    dots = centre + rng.normal(0, size / 5, (rng.integers(4, 9), 2))
    radii = rng.uniform(1.5, 2 + size / 8, len(dots))

    def dotted(draw) -> None:
        for dot, radius in zip(dots, radii, strict=True):
            draw.ellipse((*(dot - radius), *(dot + radius)), 1)

    return _drawn(dotted)


def line(points: np.ndarray, width: float) -> np.ndarray:
    """bool[patch, patch]: a polyline [points, 2] of a width in pixels."""
    return _drawn(lambda draw: draw.line([tuple(point) for point in points], 1, max(2, round(width)), joint="curve"))


def normal(copper: np.ndarray) -> np.ndarray:
    """The direction (x, y) out of the copper at the middle of a patch, of length 1; 0 where there is none."""
    y, x = np.nonzero(copper[MIDDLE - 5 : MIDDLE + 6, MIDDLE - 5 : MIDDLE + 6])
    out = 5 - np.array([x.mean(), y.mean()]) if len(x) else np.zeros(2)
    length = np.linalg.norm(out)
    return out / length if length > 1e-6 else np.zeros(2)


def depth(mask: np.ndarray, direction: np.ndarray, start: float) -> float:
    """How many pixels from `start` on from the middle the mask goes on being true in a direction; infinite where it
    does to the end of the patch."""
    steps = np.arange(start, MIDDLE - 1)
    x, y = np.rint(MIDDLE + direction[:, None] * steps).astype(int)
    ends = np.flatnonzero(~mask[y, x])
    return float(ends[0]) if len(ends) else np.inf


def _drawn(draw_on) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.new("L", (PATCH, PATCH), 0)
    draw_on(ImageDraw.Draw(image))
    return np.asarray(image, bool)
