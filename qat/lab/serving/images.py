"""Images in requests: files and arrays, as a classifier or a detector was trained on them; boxes in answers."""

import base64
import binascii
import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from qat.data import Dataset
from qat.data.images.alignment import aligned
from qat.data.images.binary import binary
from qat.data.images.pictures import KINDS, MODES, factors, letterbox
from qat.data.images.reading import broken, open_image
from qat.data.source import gather
from qat.fileio import FORMATS
from qat.lab.inspect.detector.draw import differing, shown
from qat.lab.runs.manifest import Signature
from qat.lab.serving.servable import (
    FAILED,
    MALFORMED,
    OTHER_INPUT,
    OTHER_TYPE,
    Form,
    Prepared,
    Rejected,
    named_probabilities,
    numbers,
    other_class,
)
from qat.tasks.detection.decode import Detections

MEDIA = frozenset({"image/png", "image/jpeg", "image/bmp", "image/webp", "image/tiff"})
LOOKED_AT = 64  # examples whose pixels say how files are scaled
BYTE = np.float32(1 / 255)
PAIR = (
    'this detector compares a board with its defect-free twin: send JSON, {"inputs": [{"image": BASE64, "template": '
    "BASE64}]}."
)


def scale_of_files(dataset: Dataset) -> float | None:
    """The factor from pixels of 0 to 255 to a data set's images: 1 where these are bytes, 1 / 255 where they lie in
    [0, 1]; None where they were changed in another way, which an image file cannot be taken through."""
    images = gather(dataset.splits["train"], range(min(LOOKED_AT, len(dataset.splits["train"]))))["image"]
    if images.dtype == np.uint8:
        return 1.0
    return float(BYTE) if images.min() >= 0 and 0.5 < images.max() <= 1 else None


def classifier_form(signature: Signature, dtype: np.dtype, scale: float | None) -> Form:
    """The form of a classifier of images of one size; `scale` is what the pixels of a file are multiplied by, None
    where that is not known, so that files are refused."""
    shape = signature.input_shape
    names = tuple(signature.name(label) for label in range(signature.classes))

    def image(content: bytes) -> Prepared:
        if scale is None:
            raise Rejected(
                OTHER_TYPE,
                f"what this model's data set makes of an image file is not known here. Send arrays of shape {shape}, "
                "or start the server with `--pixel-scale`.",
            )
        pixels = _pixels(content, shape)
        return Prepared(((pixels * np.float32(scale)).astype(dtype),))

    def array(value: Any) -> Prepared:
        return Prepared((numbers(value, shape, dtype),))

    return Form(
        "classification",
        f"images of shape {shape}",
        media=MEDIA,
        raw=image,
        entry=functools.partial(_entry, image, array, False),
        answer=lambda row, _: named_probabilities(row, names),
        differ=other_class,
        samples=(Prepared((np.zeros(shape, dtype),)),),
    )


def detector_form(signature: Signature, threshold: float) -> Form:
    """The form of a detector, which takes images as `qat detect` does and tells what has a score of at least
    `threshold`; of one that compares two boards both are needed."""
    shape, scale = signature.input_shape, np.float32(signature.scale)
    names = tuple(signature.name(label) for label in range(signature.classes))
    pair = scale == 1 and shape[2] != 1

    def image(content: bytes, template: bytes | None = None) -> Prepared:
        if scale != 1:
            return _photograph(content, shape, scale)
        board = _board(content, shape, "image")
        if not pair:
            return Prepared((board[:, :, None].astype(np.float32),))
        if template is None:
            raise Rejected(OTHER_INPUT, PAIR)
        twin = aligned(board, _board(template, shape, "template"))
        return Prepared((np.stack([board, board ^ twin], -1).astype(np.float32),))

    def array(value: Any) -> Prepared:
        return Prepared((scale * numbers(value, shape, np.dtype(np.uint8)).astype(np.float32),))

    return Form(
        "detection",
        f"images of shape {shape}",
        media=MEDIA,
        raw=image,
        entry=functools.partial(_entry, image, array, pair),
        answer=functools.partial(_boxes, names, threshold),
        differ=functools.partial(unmatched, threshold),
        samples=(Prepared((np.zeros(shape, np.float32),)),),
    )


def unmatched(threshold: float, row: Detections, other: Detections) -> float:
    """The share of both detectors' boxes without a counterpart: one of the same class with an IoU of at least 0.5."""
    alone = sum(int(mask.sum()) for mask in differing(row, other, threshold))
    both = sum(int(shown(one, threshold).sum()) for one in (row, other))
    return alone / both if both else 0.0


def _boxes(names: tuple[str, ...], threshold: float, row: Detections, prepared: Prepared) -> dict[str, Any]:
    if not (np.isfinite(row.boxes).all() and np.isfinite(row.scores).all()):
        raise Rejected(FAILED, "the model gave numbers that are not finite for this input.")
    boxes = row.boxes / np.array(2 * prepared.factors, np.float32)
    found = [
        {"box": boxes[i].tolist(), "label": names[int(row.labels[i])], "score": float(row.scores[i])}
        for i in np.flatnonzero(shown(row, threshold))
    ]
    return {"boxes": found}


def _entry(image: Callable[..., Prepared], array: Callable[[Any], Prepared], pair: bool, value: Any) -> Prepared:
    """One of a JSON request's inputs: an array, or files as base64."""
    if isinstance(value, list):
        return array(value)
    known = ("image", "template") if pair else ("image",)
    if not isinstance(value, dict) or "image" not in value or not value.keys() <= set(known):
        wanted = ", ".join(f'"{name}": BASE64' for name in known)
        came = ", ".join(value) if isinstance(value, dict) else str(value)[:40]
        raise Rejected(
            OTHER_INPUT,
            f"this model takes images: an input must be an array of numbers or {{{wanted}}}, got {came!r}.",
        )
    return image(*(_decoded(name, value[name]) for name in known if name in value))


def _decoded(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Rejected(MALFORMED, f"`{name}` must be a file's bytes as base64, got {str(text)[:40]!r}.") from None


def _opened(content: bytes, shape: tuple[int, ...] | None, colours: str | None) -> Any:
    """The image in a file's bytes, of the size and colours that are named. Raises `Rejected`."""
    from PIL import UnidentifiedImageError

    try:
        with open_image(io.BytesIO(content)) as file:
            if shape is not None and (file.height, file.width) != shape[:2]:
                raise Rejected(
                    OTHER_INPUT,
                    f"the image is of {file.width} x {file.height} pixels, but the model was trained on "
                    f"{shape[1]} x {shape[0]}.",
                )
            if colours is not None and KINDS.get(file.mode) != colours:
                raise Rejected(OTHER_INPUT, f"the image is of mode {file.mode}, but the model takes {colours} images.")
            return file.convert(MODES[colours]) if colours else file.copy()
    except UnidentifiedImageError:
        raise Rejected(MALFORMED, f"the file is no image in one of the formats {', '.join(FORMATS)}.") from None
    except broken() as error:
        raise Rejected(MALFORMED, f"the image cannot be read: {error}.") from None


def _pixels(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """A classifier's image, of its size and colours; nothing is resized, as the data set did so in its own way."""
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise Rejected(OTHER_TYPE, f"no image file has the shape {shape} that this model takes. Send arrays.")
    picture = _opened(content, shape, "grey" if shape[2] == 1 else "rgb")
    return np.asarray(picture, np.uint8).reshape(shape)


def _photograph(content: bytes, shape: tuple[int, ...], scale: np.float32) -> Prepared:
    """A detector's image, put into its size as in training."""
    picture = _opened(content, None, "grey" if shape[2] == 1 else "rgb")
    size = (shape[0], shape[1])
    pixels = scale * letterbox(picture, size).astype(np.float32)
    return Prepared((pixels,), factors(picture.width, picture.height, size))


def _board(content: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A binarised board, of the size that the detector was trained on."""
    picture = _opened(content, shape, None)
    if KINDS.get(picture.mode) != "grey":
        pixels = np.asarray(picture.convert("RGB"))
        if picture.mode != "RGB" or (pixels != pixels[:, :, :1]).any():
            raise Rejected(OTHER_INPUT, f"the {name} is in colour, but the detector takes binarised boards.")
    try:
        return binary(io.BytesIO(content), f"the {name}")
    except ValueError as error:
        raise Rejected(OTHER_INPUT, str(error)) from None
