"""Image files as a detector was trained on them: found, paired with their templates, read as `deeppcb` or `coco` do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qat.data.images.alignment import aligned
from qat.data.images.binary import binary
from qat.data.images.pictures import CONVERTIBLE, DEPTH, KINDS, MODES, factors, letterbox
from qat.data.images.reading import Header, broken, header, open_image
from qat.lab.runs.manifest import Signature

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
TEST, TEMPLATE = "_test", "_temp"  # how the names of a board and of its defect-free template end


@dataclass(frozen=True)
class Shot:
    """A file as pixels to show, uint8[height, width] or [height, width, 3], and as the detector's `image`, whose x and
    y are those of the file times `factors`."""

    path: Path
    shown: np.ndarray
    image: np.ndarray
    factors: tuple[float, float] = (1.0, 1.0)


def find_images(named: Sequence[Path]) -> list[Path]:
    """The files that are named, and those in the folders that are, in order; templates `NAME_temp` of a board
    `NAME_test` in the same folder are no images of their own."""
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            files = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES)
            boards = {one.stem.removesuffix(TEST) for one in files if one.stem.endswith(TEST)}
            found += [one for one in files if not _is_template(one, boards)]
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"`images` must be files or folders, but there is no {str(path)!r}.")
    if not found:
        raise ValueError(
            f"`images` must name at least one image, got {', '.join(map(str, named)) or 'none'}. "
            f"Known endings: {', '.join(SUFFIXES)}."
        )
    return list(dict.fromkeys(found))


def read_shot(path: Path, about: Signature, template: Path | None = None, convert: bool = False) -> Shot:
    """The image in a file, as a detector of this signature takes it; `template` is its defect-free twin's file, or a
    folder of such, where it is not beside it; the twin is moved to where it differs least. With `convert` grey images
    become RGB and others grey, as needed.

    Raises `ValueError` for a file that is no image, and for one of another size or other colours than in training.
    """
    size, channels = about.input_shape[:2], about.input_shape[2]
    if about.scale != 1:
        return _photograph(path, (size[0], size[1]), channels, convert)
    board = _binary(path, size)
    if channels == 1:
        return Shot(path, _grey(board), board[:, :, None].astype(np.uint8))
    twin = aligned(board, _binary(_template_of(path, template), size))
    return Shot(path, _grey(board), np.stack([board, board ^ twin], -1).astype(np.uint8))


def _is_template(path: Path, boards: set[str]) -> bool:
    return path.stem.endswith(TEMPLATE) and path.stem.removesuffix(TEMPLATE) in boards


def _template_of(path: Path, given: Path | None) -> Path:
    if given is not None and not given.is_dir():
        return given
    if given is None and path.stem.endswith(TEMPLATE):
        raise ValueError(f"{str(path)!r} is a template by its name, no board under test. Leave it out.")
    folder, stem = given or path.parent, path.stem.removesuffix(TEST)
    names = [f"{stem}{TEMPLATE}{suffix}" for suffix in dict.fromkeys((path.suffix, *SUFFIXES))]
    if given is not None:
        names += [path.name]
    for name in names:
        if (folder / name).is_file() and folder / name != path:
            return folder / name
    raise ValueError(
        f"{str(path)!r} has no template: this detector compares a board with its defect-free twin, and there is no "
        f"{names[0]} in {str(folder)!r}. Put it there, or name its file or folder by `template`."
    )


def _header(path: Path) -> Header:
    found = header(path)
    if isinstance(found, str):
        raise ValueError(f"{str(path)!r} cannot be used: {found}.")
    return found


def _binary(path: Path, size: Sequence[int]) -> np.ndarray:
    found = _header(path)
    if (found.height, found.width) != tuple(size):
        raise ValueError(
            f"{str(path)!r} is of {found.width} x {found.height} pixels, but the detector was trained on boards of "
            f"{size[1]} x {size[0]}. Scan or cut them at that size: defects of another scale are not found."
        )
    if found.mode not in ("1", "L") and not (found.mode == "RGB" and _is_colourless(path)):
        raise ValueError(f"{str(path)!r} is in colour (mode {found.mode}), but the detector takes binarised boards.")
    return binary(path, str(path))


def _photograph(path: Path, size: tuple[int, int], channels: int, convert: bool) -> Shot:
    found, kind = _header(path), "grey" if channels == 1 else "rgb"
    if KINDS.get(found.mode) != kind and not convert:
        raise ValueError(
            f"{str(path)!r} is of mode {found.mode}, but the detector was trained on {kind} images. "
            "Convert it, or ask for it to be converted."
        )
    if found.mode not in CONVERTIBLE:
        raise ValueError(f"{str(path)!r} cannot be converted: {DEPTH}, got mode {found.mode}.")
    try:
        with open_image(path) as file:
            picture = file.convert(MODES[kind])
    except broken() as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}.") from error
    return Shot(path, np.asarray(picture), letterbox(picture, size), factors(picture.width, picture.height, size))


def _is_colourless(path: Path) -> bool:
    try:
        with open_image(path) as file:
            pixels = np.asarray(file.convert("RGB"))
    except broken() as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}.") from error
    return bool((pixels == pixels[:, :, :1]).all())


def _grey(board: np.ndarray) -> np.ndarray:
    return np.where(board, 255, 0).astype(np.uint8)
