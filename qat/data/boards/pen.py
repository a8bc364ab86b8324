"""Strokes as a board's layout has them: runs at multiples of 45 degrees, in parallel, and apart from one another."""

from collections.abc import Sequence

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
    """The number of pixels for which the mask stays true in a direction, counted from `start` pixels beside the middle;
    infinite where it does to the end of the patch.
    """
    steps = np.arange(start, MIDDLE - 1)
    x, y = np.rint(MIDDLE + direction[:, None] * steps).astype(int)
    ends = np.flatnonzero(~mask[y, x])
    return float(ends[0]) if len(ends) else np.inf


def _drawn(draw_on) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.new("L", (PATCH, PATCH), 0)
    draw_on(ImageDraw.Draw(image))
    return np.asarray(image, bool)


COPPER, BARE = 255, 0

type Whole = int | np.signedinteger
type Point = Sequence[float] | np.ndarray


class Sheet:
    """An area of `width` x `height` pixels to draw copper on; what reaches beyond it is cut off."""

    def __init__(self, width: int, height: int):
        from PIL import Image, ImageDraw

        self.width, self.height = width, height
        self.image = Image.new("L", (width, height), BARE)
        self.draw = ImageDraw.Draw(self.image)

    def stroke(self, points: np.ndarray, width: float, colour: int = COPPER) -> None:
        """Draw a polyline [points, 2] of a width in pixels, its ends and bends round."""
        self.draw.line([tuple(point) for point in points], colour, round(width), joint="curve")
        for point in (points[0], points[-1]):
            self.disc(point, width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: int = COPPER) -> None:
        """Draw a disc."""
        x, y = centre
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)

    def rectangle(self, corner: Point, size: Point, round_by: float, colour: int = COPPER) -> None:
        """Draw a rectangle from its upper left corner, its corners rounded by a radius."""
        (x, y), (width, height) = corner, size
        self.draw.rounded_rectangle((x, y, x + width, y + height), round_by, colour)

    def drop(self, centre: np.ndarray, towards: np.ndarray, radius: float, width: float) -> None:
        """Fill what lies between a disc and a trace of a width that leaves it towards a point, like a drop."""
        along = (towards - centre) / max(float(np.linalg.norm(towards - centre)), 1e-9)
        across = np.array([-along[1], along[0]])
        tip = centre + 2.2 * radius * along
        ends = (centre - radius * across, tip - width / 2 * across, tip + width / 2 * across, centre + radius * across)
        self.draw.polygon([tuple(end) for end in ends], COPPER)

    def is_free(self, points: np.ndarray, width: float) -> bool:
        """Whether a stroke would touch no copper."""
        from PIL import ImageChops

        other = Sheet(self.width, self.height)
        other.stroke(points, width)
        box = other.image.getbbox()
        return box is None or ImageChops.multiply(other.image.crop(box), self.image.crop(box)).getbbox() is None


def run(
    rng: np.random.Generator, start: np.ndarray, heading: Whole, legs: Whole, shortest: float, longest: float
) -> np.ndarray:
    """Points [legs + 1, 2] of a run from `start`: legs of `shortest` to `longest` pixels, every second one along
    `heading` in eighths of a turn, those between an eighth to either side."""
    turns = np.where(np.arange(legs) % 2, rng.choice([-1, 1], legs), 0) + heading
    steps = np.stack([np.cos(turns * np.pi / 4), np.sin(turns * np.pi / 4)], -1)
    lengths = rng.uniform(shortest, longest, legs)
    return np.concatenate([start[None], start + np.cumsum(steps * lengths[:, None], 0)])


def later(points: np.ndarray, distance: float) -> np.ndarray:
    """The polyline without its first pixels; the first leg must be longer."""
    step = points[1] - points[0]
    return np.concatenate([points[:1] + distance * step / np.linalg.norm(step), points[1:]])


def beside(points: np.ndarray, distance: float) -> np.ndarray:
    """The polyline that runs beside another at a distance in pixels."""
    steps = np.diff(points, axis=0)
    normals = np.stack([-steps[:, 1], steps[:, 0]], -1) / np.linalg.norm(steps, axis=1, keepdims=True)
    before, after = np.concatenate([normals[:1], normals]), np.concatenate([normals, normals[-1:]])
    mitre = (before + after) / (1 + (before * after).sum(1, keepdims=True))
    return points + distance * mitre
