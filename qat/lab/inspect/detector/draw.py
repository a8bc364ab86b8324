"""Pictures of what a detector finds: boxes with class and score, and two detectors' side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qat.tasks.detection.boxes import pairwise_iou
from qat.tasks.detection.decode import Detections

if TYPE_CHECKING:
    from PIL.Image import Image

type Box = tuple[float, float, float, float]
type Colour = tuple[int, int, int]

LARGE = 1000  # pixels that a picture's longer side comes near to, by whole factors
DARKEST, LIGHTEST = 60, 235  # grey levels of the board, so that colours and captions stand out from it
PAPER, INK, ALARM = (250, 250, 250), (20, 20, 20), (255, 0, 170)
# Okabe and Ito's colours (2008), told apart by the colour-blind too; classes beyond the seventh share them.
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66))


def draw(
    image: np.ndarray,
    found: Detections,
    names: Sequence[str],
    *,
    threshold: float = 0.0,
    caption: str = "",
    marked: np.ndarray | None = None,
) -> "Image":
    """`image`, uint8[height, width] or [height, width, 3], with the detections on it of a score of at least
    `threshold`, and the caption below. Small images are enlarged; those of `marked` get a second, dashed frame."""
    from PIL import Image, ImageDraw

    factor = max(1, round(LARGE / max(image.shape[:2])))
    board = Image.fromarray(_faded(image)).convert("RGB")
    board = board.resize((board.width * factor, board.height * factor), Image.Resampling.NEAREST)
    pen = _Pen(max(board.size) / LARGE, board.size)
    to = ImageDraw.Draw(board)
    frames: dict[int, Box] = {}
    for i in map(int, np.flatnonzero(shown(found, threshold))):
        dashed = marked is not None and bool(marked[i])
        frames[i] = pen.frame(to, _scaled(found.boxes[i], factor), _colour(found, i), dashed=dashed)
    taken = list(frames.values())
    for i, frame in frames.items():
        text = f"{names[int(found.labels[i])]} {found.scores[i]:.2f}"
        taken.append(pen.label(to, frame, text, _colour(found, i), taken))
    return _captioned(board, caption, pen) if caption else board


def draw_beside(
    image: np.ndarray,
    first: tuple[str, Detections],
    second: tuple[str, Detections],
    names: Sequence[str],
    *,
    threshold: float = 0.0,
) -> "Image":
    """Two detectors, each with its name, on one image; what one of them finds alone is marked, and counted below."""
    from PIL import Image

    marks = differing(first[1], second[1], threshold)
    panels = [
        draw(image, found, names, threshold=threshold, caption=_caption(name, found, threshold, alone), marked=alone)
        for (name, found), alone in zip((first, second), marks, strict=True)
    ]
    gap = round(panels[0].width / 80)
    whole = Image.new("RGB", (2 * panels[0].width + gap, panels[0].height), PAPER)
    whole.paste(panels[0])
    whole.paste(panels[1], (panels[0].width + gap, 0))
    return whole


def _captioned(board: "Image", caption: str, pen: "_Pen") -> "Image":
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (board.width, board.height + pen.line_height + pen.width(12)), PAPER)
    picture.paste(board)
    ImageDraw.Draw(picture).text((pen.width(8), board.height + pen.width(5)), caption, INK, pen.font)
    return picture


def _caption(name: str, found: Detections, threshold: float, alone: np.ndarray) -> str:
    return f"{name}: {int(shown(found, threshold).sum())} found, {int(alone.sum())} by this one alone"


def _colour(found: Detections, i: int) -> Colour:
    return COLOURS[int(found.labels[i]) % len(COLOURS)]


def _faded(image: np.ndarray) -> np.ndarray:
    return np.round(DARKEST + image * ((LIGHTEST - DARKEST) / 255)).astype(np.uint8)


def _scaled(box: Any, factor: int) -> Box:
    x1, y1, x2, y2 = (float(side) * factor for side in box)
    return x1, y1, x2, y2


@dataclass(frozen=True)
class _Pen:
    """Draws in widths that grow with the picture: `unit` is 1 for one of the usual size, `size` its board's."""

    unit: float
    size: tuple[int, int]

    def width(self, thickness: float) -> int:
        return max(1, round(thickness * self.unit))

    @property
    def font(self) -> Any:
        from PIL import ImageFont

        return ImageFont.load_default(self.width(17))

    @property
    def line_height(self) -> int:
        return self.width(21)

    def frame(self, to: Any, box: Box, colour: Colour, *, dashed: bool) -> Box:
        """A coloured frame between a dark and a light one, so that it is seen on both, and a dashed one around it where
        asked for; the outermost."""
        for outwards, thickness, of in ((5, 1.5, INK), (3.5, 3, colour), (0.5, 1.5, PAPER)):
            to.rectangle(_grown(box, outwards * self.unit), outline=of, width=self.width(thickness))
        return self._dashes(to, box) if dashed else _grown(box, 6 * self.unit)

    def _dashes(self, to: Any, box: Box) -> Box:
        x1, y1, x2, y2 = _grown(box, 11 * self.unit)
        to.rectangle((x1, y1, x2, y2), outline=PAPER, width=self.width(4))
        dash = self.width(10)
        for x in np.arange(x1, x2, 2 * dash):
            for y in (y1, y2 - self.width(4)):
                to.rectangle((x, y, min(x + dash, x2), y + self.width(4)), fill=ALARM)
        for y in np.arange(y1, y2, 2 * dash):
            for x in (x1, x2 - self.width(4)):
                to.rectangle((x, y, x + self.width(4), min(y + dash, y2)), fill=ALARM)
        return x1, y1, x2 + 1, y2 + 1

    def label(self, to: Any, frame: Box, text: str, colour: Colour, taken: Sequence[Box]) -> Box:
        """Write beside a frame, where least is covered; the place that it took."""
        size = (to.textlength(text, self.font) + self.width(8), self.line_height)
        place = min(self._places(frame, size), key=lambda one: sum(_shared(one, other) for other in taken))
        to.rectangle(place, fill=colour, outline=INK, width=self.width(1))
        ink = INK if np.dot(colour, (0.299, 0.587, 0.114)) > 120 else PAPER
        to.text((place[0] + self.width(4), place[1]), text, ink, self.font)
        return place

    def _places(self, frame: Box, size: tuple[float, float]) -> list[Box]:
        """Above, below, right, left of the frame and inside it, pushed into the picture."""
        (x1, y1, x2, y2), (w, h) = frame, size
        corners = ((x1, y1 - h), (x1, y2), (x2 - w, y1 - h), (x2 - w, y2), (x2, y1), (x1 - w, y1), (x1, y1))
        inside = [(min(max(x, 0), self.size[0] - w - 1), min(max(y, 0), self.size[1] - h - 1)) for x, y in corners]
        return [(x, y, x + w, y + h) for x, y in inside]


def _grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _shared(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


SAME = 0.5  # IoU from which on two boxes of a class are one


def shown(found: Detections, threshold: float) -> np.ndarray:
    """Select the detections of one image with a score of at least `threshold`."""
    return (np.asarray(found.scores) >= threshold) & (np.asarray(found.labels) >= 0)


def differing(first: Detections, second: Detections, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Select each detector's shown detections that have no counterpart among the other's: a box of the same class with
    an IoU of at least a half. Counterparts are paired off by their overlap, the best first.
    """
    alone = shown(first, threshold), shown(second, threshold)
    overlaps = np.array(pairwise_iou(first.boxes, second.boxes))
    overlaps[~(alone[0][:, None] & alone[1][None])] = 0
    overlaps[np.asarray(first.labels)[:, None] != np.asarray(second.labels)[None]] = 0
    while overlaps.max(initial=0) >= SAME:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps[i], overlaps[:, j] = 0, 0
        alone[0][i] = alone[1][j] = False
    return alone
