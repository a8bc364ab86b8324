"""Annotation files in COCO's format (Lin et al. 2014, arXiv 1405.0312): classes, images, boxes, and what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qat.data.images.pictures import ROUNDING, Objects, Picture, wrong_box
from qat.data.images.reading import Header, header
from qat.data.problems import Problem
from qat.data.source import fingerprint
from qat.fileio import parse_json, read_bytes

LARGEST = 1e30  # a number of pixels that a float32 still holds
SHOWN = 100  # signs of what is no box
LISTS = ("images", "annotations", "categories")


class Named(NamedTuple):
    """An image file, its header, and where it is named."""

    path: Path
    header: Header
    where: str


@dataclass(frozen=True)
class Annotated:
    """Contents of an annotation file: names of the classes by id, the usable images, how many boxes of crowds were left
    out, and all that is wrong; `content` is a digest of it and of the sizes of the images' files.
    """

    classes: Mapping[int, str]
    pictures: Sequence[Picture]
    crowds: int
    problems: Sequence[Problem]
    content: str


def read_annotated(file: Path, folder: Path) -> Annotated:
    """Read the COCO annotations in `file`, whose images lie in `folder`. Boxes may pass the image's edge by a pixel, as
    rounding does, and are clipped.

    Images are looked for in `images` beside the file, beside it, in `images` of the folder, in the folder, and in the
    folder of the name that `file` ends with (`train2017` for `instances_train2017.json`). Raises `ValueError` for a
    file that is none of COCO's.
    """
    text, name = _bytes(file), str(file.relative_to(folder) if file.is_relative_to(folder) else file)
    content = _content(text, file)
    classes = _classes(content["categories"], name)
    places = [file.parent / "images", file.parent, folder / "images", folder, folder / file.stem.split("_")[-1]]
    images, problems = _images(content["images"], places, name)
    objects: dict[int, tuple[list, list]] = {one: ([], []) for one in images}
    listed = {_integer(entry, "id") for entry in content["images"]} - {None}
    labels = {category: label for label, category in enumerate(classes)}
    crowds = 0
    for entry in content["annotations"]:
        image = _integer(entry, "image_id")
        if image in listed and image not in images:
            continue  # its image cannot be used, which is said already
        if image in images and entry.get("iscrowd") == 1:
            crowds += 1
            continue
        wrong = _wrong_annotation(entry, images, labels)
        if wrong:
            problems.append(Problem(f"{name}: annotation {_name(entry)}", wrong))
        else:
            boxes, kinds = objects[entry["image_id"]]
            boxes.append(_clipped(entry["bbox"], images[entry["image_id"]].header))
            kinds.append(labels[entry["category_id"]])
    pictures = [Picture(*file, Objects.of(*objects[one])) for one, file in images.items()]
    sizes = [f"{picture.path.name} {picture.header.bytes}" for picture in pictures]
    return Annotated(classes, pictures, crowds, problems, fingerprint(text, *sizes))


def _bytes(file: Path) -> bytes:
    try:
        return read_bytes(file, "annotations")
    except ValueError as error:
        raise ValueError(f"`folder` must hold readable annotations, but {str(file)!r} is not: {error}") from None


def _content(text: bytes, file: Path) -> dict[str, list]:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise ValueError(f"`folder` must hold readable annotations, but {str(file)!r} is not: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in LISTS):
        raise ValueError(f"`folder` must hold annotations in COCO's format, but {str(file)!r} has no lists {LISTS}.")
    return content


def _classes(categories: list, name: str) -> dict[int, str]:
    """Names by id, in the order of the ids, which may have gaps."""
    ids = [_integer(entry, "id") for entry in categories]
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in categories]
    classes = {one: title for one, title in zip(ids, names, strict=True) if one is not None and isinstance(title, str)}
    if not classes or len(set(classes.values())) != len(categories):
        raise ValueError(
            f"`categories` of {name} must have an `id` and a `name` each, all different, got "
            f"{dict(zip(ids, names, strict=True))}."
        )
    return dict(sorted(classes.items()))


def _images(entries: list, places: list[Path], name: str) -> tuple[dict[int, Named], list[Problem]]:
    """The usable images by id, and what is wrong with the others."""
    images: dict[int, Named] = {}
    problems = []
    for entry in entries:
        one, where = _integer(entry, "id"), f"{name}: image {_name(entry)}"
        if one is None or not isinstance(entry.get("file_name"), str):
            wrong = "expected a whole `id` and a `file_name`"
        elif one in images:
            wrong = "its `id` is that of an image before"
        else:
            path = next((place / entry["file_name"] for place in places if _is_file(place / entry["file_name"])), None)
            found = f"no file {entry['file_name']!r}" if path is None else header(path)
            wrong = found if isinstance(found, str) else _other_size(found, entry)
            if path is not None and not isinstance(found, str) and not wrong:
                images[one] = Named(path, found, where)
        if wrong:
            problems.append(Problem(where, wrong))
    return images, problems


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _other_size(found: Header, entry: dict[str, Any]) -> str | None:
    said = entry.get("width"), entry.get("height")
    if said == (None, None) or said == (found.width, found.height):
        return None
    turned = " Is it turned by an orientation tag?" if said == (found.height, found.width) else ""
    return f"expected an image of {said[0]} x {said[1]} pixels, got {found.width} x {found.height}.{turned}"


def _wrong_annotation(entry: Any, images: Mapping[int, Named], labels: Mapping[int, int]) -> str | None:
    image, category = _integer(entry, "image_id"), _integer(entry, "category_id")
    if image is None or image not in images:
        return f"unknown image {entry.get('image_id') if isinstance(entry, dict) else entry!r}"
    if category not in labels:
        return f"unknown class {entry.get('category_id')!r}. Known: {', '.join(map(str, labels))}"
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"expected `bbox` as [x, y, width, height], got {str(box)[:SHOWN]}"
    x, y, width, height = box
    file = images[image].header
    wrong = wrong_box((x, y, x + width, y + height), file.width, file.height, ROUNDING)
    return wrong or wrong_box(_clipped(box, file), file.width, file.height)


def _is_number(x: Any) -> bool:
    """Whether it is a number as floats are; JSON has whole ones of any length."""
    return isinstance(x, float) or (isinstance(x, int) and not isinstance(x, bool) and abs(x) < LARGEST)


def _clipped(box: Sequence[float], image: Header) -> list[float]:
    x, y, width, height = box
    edges = (image.width, image.height) * 2
    return np.clip((x, y, x + width, y + height), 0, edges).tolist()


def _integer(entry: Any, key: str) -> int | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _name(entry: Any) -> str:
    """The entry's id, or itself where it has none."""
    return repr(entry.get("id", entry)) if isinstance(entry, dict) else repr(entry)
