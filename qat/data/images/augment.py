"""Random crops, turns, flips and mosaics of images with their boxes, whole batches at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from qat.data.images.pictures import MULTIPLE, NOTHING
from qat.data.source import Example

type Symmetry = Literal["square", "mirror", "none"]
NUMBERS = {2: np.uint16, 4: np.uint32, 8: np.uint64}  # a pixel of that many bytes is moved as one number


@dataclass(frozen=True)
class Augmentation:
    """Changes `image` [batch, height, width, channels], `boxes` float32[batch, rows, 4] in pixels and `labels`
    int32[batch, rows] of a batch; deterministic in the generator. Nothing is resized, so that pixels stay exact.

    An image becomes a random crop with sides of `crop` pixels (None: all of it), in one of the views that are as
    likely: with `symmetry` "square" eight turns and flips, with "mirror" left and right exchanged, with "none" itself.
    `mosaic` of the images are joined from random crops of four images of the batch that meet at a random point
    (Bochkovskiy et al. 2020, arXiv 2004.10934); where those hold more objects than there are rows, the image stays a
    crop of one. With `jitter` the template of half of the images, whose two channels are a board and where it differs
    from its template, is moved by up to so many pixels along either axis. An object stays where at least `visible` of
    its area does, its box clipped, unless less than `sliver` pixels are left of a longer side.
    """

    crop: int | None = None
    symmetry: Symmetry = "square"
    mosaic: float = 0.0
    jitter: int = 0
    visible: float = 0.4
    sliver: float = 4.0

    def __post_init__(self):
        if self.crop is not None and self.crop < 4:
            raise ValueError(f"`crop` must be at least 4 pixels or None, got {self.crop}.")
        if self.jitter < 0:
            raise ValueError(f"`jitter` must be at least 0 pixels, got {self.jitter}.")
        if self.symmetry not in ("square", "mirror", "none"):
            raise ValueError(f"`symmetry` must be 'square', 'mirror' or 'none', got {self.symmetry!r}.")
        if not (0 <= self.mosaic <= 1 and 0 < self.visible <= 1):
            raise ValueError(
                f"`mosaic` must be in [0, 1] and `visible` in (0, 1], got {self.mosaic} and {self.visible}."
            )

    def __call__(self, batch: Example, rng: np.random.Generator) -> Example:
        """The batch with the three fields changed, the others as they are."""
        images = np.ascontiguousarray(batch["image"])
        count, *full = images.shape[:3]
        whole = np.array(full[::-1])  # as (x, y), like all that follows
        size = whole if self.crop is None else np.array([self.crop, self.crop])
        check_fits(self, images.shape[1:])
        views = _views(self.symmetry, count, rng)
        tiles = one = _one(count, whole, size, rng)
        boxes, labels = self._seen(batch, one)
        joined = np.zeros(count, bool)
        if self.mosaic:
            rows = labels.shape[1]
            tiles = _four(count, whole, size, rng)
            more, names = self._seen(batch, tiles)
            joined = (rng.random(count) < self.mosaic) & (names[:, rows:] == NOTHING).all(1)
            boxes = np.where(joined[:, None, None], more[:, :rows], boxes)
            labels = np.where(joined[:, None], names[:, :rows], labels)
        moves = _moves(self.jitter, count, rng)
        pixels = np.empty((count, size[1], size[0], images.shape[3]), images.dtype)
        new, old = _whole_pixels(pixels), _whole_pixels(images)
        for i in range(count):
            own = tiles if joined[i] else one
            _draw(new[i], old, own, i, views[i])
            if moves[i].any():
                _move_template(pixels[i], images, own, i, views[i], moves[i])
        return {**batch, "image": pixels, "boxes": _turned(boxes, labels, views, size), "labels": labels}

    def _seen(self, batch: Example, tiles: "Tiles") -> tuple[np.ndarray, np.ndarray]:
        """Boxes [batch, tiles * rows, 4] in the new image and their labels, those that stay first."""
        boxes, labels = batch["boxes"][tiles.image], batch["labels"][tiles.image]
        low, high = boxes[..., :2] - tiles.corner[:, :, None], boxes[..., 2:] - tiles.corner[:, :, None]
        end = tiles.size[:, :, None]
        clipped = np.concatenate([np.clip(low, 0, end), np.clip(high, 0, end)], -1).astype(np.float32)
        before, after = high - low, clipped[..., 2:] - clipped[..., :2]
        stays = (labels != NOTHING) & (after.prod(-1) >= self.visible * before.prod(-1))
        stays &= ((after >= np.minimum(before, self.sliver)) & (after > 0)).all(-1)
        clipped += np.tile(tiles.at, 2)[:, :, None]
        flat = stays.reshape(len(stays), -1)
        order = np.argsort(~flat, axis=1, kind="stable")
        kept = np.take_along_axis(flat, order, 1)
        boxes = np.take_along_axis(clipped.reshape(*flat.shape, 4), order[..., None], 1)
        labels = np.take_along_axis(labels.reshape(flat.shape), order, 1)
        return np.where(kept[..., None], boxes, 0), np.where(kept, labels, NOTHING)


class Tiles(NamedTuple):
    """The tiles that each new image consists of: of which image, cut at which corner, placed where, how large; as (x,
    y).
    """

    image: np.ndarray
    corner: np.ndarray
    at: np.ndarray
    size: np.ndarray


def check_fits(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` where images of a shape cannot be cropped or turned so."""
    height, width = shape[:2]
    crop = augmentation.crop
    if crop is not None and crop % MULTIPLE:
        raise ValueError(f"`crop` must be a multiple of {MULTIPLE} pixels, got {crop}.")
    if crop is not None and crop > min(height, width):
        raise ValueError(f"`crop` must be at most the images' sides, {height} x {width} pixels, got {crop}.")
    if augmentation.jitter and shape[2] != 2:
        raise ValueError(f"`jitter` moves templates: it needs images of a board and its template, got {shape}.")
    if augmentation.jitter and (crop is None or crop + augmentation.jitter > min(height, width)):
        raise ValueError(
            f"`jitter` moves templates within what `crop` leaves out: of {height} x {width} pixels `crop` must leave "
            f"{augmentation.jitter}, got {crop}."
        )
    if crop is None and augmentation.symmetry == "square" and height != width:
        raise ValueError(
            f"`symmetry` 'square' needs square images, got {height} x {width} pixels. Pass `crop`, or 'mirror'."
        )


def _one(count: int, whole: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> Tiles:
    sizes = np.broadcast_to(size, (count, 1, 2))
    corner = rng.integers(0, whole - sizes, endpoint=True)
    return Tiles(np.arange(count)[:, None], corner, np.zeros_like(corner), sizes)


def _four(count: int, whole: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> Tiles:
    """Tiles that meet between a quarter and three quarters of the new image; the first is of the image itself."""
    meet = rng.integers(size // 4, size - size // 4, (count, 2))
    second = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], bool)
    sizes = np.where(second, size - meet[:, None], meet[:, None])
    image = rng.integers(0, count, (count, 4))
    image[:, 0] = np.arange(count)
    corner = rng.integers(0, whole - sizes, endpoint=True)
    return Tiles(image, corner, np.where(second, meet[:, None], 0), sizes)


def _views(symmetry: Symmetry, count: int, rng: np.random.Generator) -> np.ndarray:
    """bool[count, 3]: whether x and y are exchanged, then x reversed, then y reversed."""
    possible = {"square": [True, True, True], "mirror": [False, True, False], "none": [False, False, False]}
    return rng.integers(0, 2, (count, 3)).astype(bool) & possible[symmetry]


def _moves(jitter: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """int[count, 2]: by how many pixels (x, y) each template is moved; half of them stay."""
    if not jitter:
        return np.zeros((count, 2), int)
    return rng.integers(-jitter, jitter, (count, 2), endpoint=True) * rng.integers(0, 2, (count, 1))


def _whole_pixels(images: np.ndarray) -> np.ndarray:
    """View the channels of each pixel as one number, without a copy, where a number type of that size exists."""
    number = NUMBERS.get(images.shape[-1] * images.itemsize)
    return images.view(number)[..., 0] if number else images


def _draw(new: np.ndarray, images: np.ndarray, tiles: Tiles, index: int, view: np.ndarray) -> None:
    """Fill a new image with its tiles, so that it is seen in a view."""
    new = _seen_in(new, view)
    for image, (x, y), (left, top), (width, height) in _each(tiles, index):
        new[top : top + height, left : left + width] = images[image, y : y + height, x : x + width]


def _move_template(
    new: np.ndarray, images: np.ndarray, tiles: Tiles, index: int, view: np.ndarray, move: np.ndarray
) -> None:
    """Let a drawn image differ from its template as that lies when moved, as far as the template reaches."""
    new = _seen_in(new, view)
    whole = np.array(images.shape[2:0:-1])
    for image, corner, (left, top), (width, height) in _each(tiles, index):
        x, y = np.clip(corner - move, 0, whole - (width, height))
        there = images[image, y : y + height, x : x + width]
        tile = new[top : top + height, left : left + width]
        tile[..., 1] = tile[..., 0] ^ there[..., 0] ^ there[..., 1]


def _seen_in(new: np.ndarray, view: np.ndarray) -> np.ndarray:
    """An image's memory, indexed so that what is drawn into it is seen in a view."""
    exchange, reverse_x, reverse_y = view
    new = new[:: -1 if reverse_y else 1, :: -1 if reverse_x else 1]
    return new.swapaxes(0, 1) if exchange else new


def _each(tiles: Tiles, index: int) -> Iterator[tuple[Any, ...]]:
    """Image, corner, place and size of each tile of a new image."""
    return zip(*(part[index] for part in tiles), strict=True)


def _turned(boxes: np.ndarray, labels: np.ndarray, views: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Boxes of images that are seen in views; those of no object stay 0."""
    exchange, reverse_x, reverse_y = views.T[:, :, None, None]
    width, height = size
    boxes = np.where(exchange, boxes[..., [1, 0, 3, 2]], boxes)
    boxes = np.where(reverse_x, [width, 0, width, 0] + boxes[..., [2, 1, 0, 3]] * [-1, 1, -1, 1], boxes)
    boxes = np.where(reverse_y, [0, height, 0, height] + boxes[..., [0, 3, 2, 1]] * [1, -1, 1, -1], boxes)
    return np.where(labels[..., None] == NOTHING, 0, boxes).astype(np.float32)
