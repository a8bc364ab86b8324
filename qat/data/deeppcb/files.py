"""The folder of DeepPCB as it is published: lists of pairs, annotation files, images, and what is wrong with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qat.data.images.binary import binary
from qat.data.images.pictures import Objects, most, wrong_box
from qat.data.images.reading import broken, header, open_image
from qat.data.problems import IMAGES, Problem, held, settle
from qat.data.source import fingerprint

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
SIDE = 640  # pixels
LISTS = {"trainval": "trainval.txt", "test": "test.txt"}
VARIABLE = "QAT_DEEPPCB"
REMEDY = (
    f"Pass the downloaded folder of DeepPCB, the one that holds PCBData, or set {VARIABLE} to it; "
    "the data set `boards` draws boards of its own and needs no folder."
)

COLOURED = 64  # grey levels between the channels of a pixel that is no grey
PAINTED = 0.002  # share of such pixels from which an image has annotations in it; grey ones with three channels have 0


@dataclass(frozen=True)
class Flaw:
    """A published board with a flaw: the image that has it, "test" or "template", and what it is."""

    image: str
    what: str


_BLANK = Flaw("template", "its template is blank, so that it would differ from it in all its copper")
FLAWED = {
    "group44000/44000/44000020": Flaw(
        "test", "its annotations, boxes and names of classes, are painted into the image"
    ),
    **{f"group20085/20085/{number}": _BLANK for number in (20085159, 20085167, 20085168)},
}
"""The flawed boards of the published set, by name; where their images have been mended they are used."""

type Board = tuple[np.ndarray, np.ndarray | None, Objects]
"""The image under test and its template, bool[640, 640] and true where there is background, and the defects."""


@dataclass(frozen=True)
class Pair:
    """An image under test and its defect-free template, the sizes of both files in bytes, and the annotations; `flaw`
    is "test" or "template" where that image is flawed, see `FLAWED`.
    """

    name: str
    images: tuple[Path, ...]
    sizes: tuple[int, ...]
    text: str
    objects: Objects
    flaw: str = ""


@dataclass(frozen=True)
class Listing:
    """One list of the set: boards by `names` with at most `rows` defects; `content` is a digest that changes with them.

    `flaws` has the flawed image, "test" or "template", of boards that have one.
    """

    names: tuple[str, ...]
    flaws: Mapping[str, str]
    rows: int
    content: str
    read: Callable[[int], Board]

    @property
    def count(self) -> int:
        """The number of boards."""
        return len(self.names)


def published(folder: Path, template: bool, bad: str) -> dict[str, Listing]:
    """The lists of a folder, with or without templates. Raises `ValueError` as `read_pairs` does."""
    pairs = read_pairs(folder, template, bad)
    rows = most([pair.objects for listed in pairs.values() for pair in listed])
    return {
        name: Listing(
            names=tuple(pair.name for pair in listed),
            flaws=flaws(listed),
            rows=rows,
            content=content(listed, template),
            read=_reader(listed),
        )
        for name, listed in pairs.items()
    }


def flaws(pairs: Sequence[Pair]) -> dict[str, str]:
    """The flawed image of each pair that has one, by the pair's name."""
    return {pair.name: pair.flaw for pair in pairs if pair.flaw}


def content(pairs: Sequence[Pair], template: bool) -> str:
    """A digest of names, file sizes and annotations; of the templates' sizes only where they are used."""
    return fingerprint(*(f"{pair.name} {pair.sizes[: 1 + template]}\n{pair.text}" for pair in pairs))


def read_pairs(folder: Path, template: bool, bad: str) -> dict[str, list[Pair]]:
    """The usable pairs of each list; what is wrong is refused or dropped as `bad` says.

    A wrong line of an annotation file costs its box alone. Of images only the ends are read. Raises `ValueError` for
    a folder that is none of DeepPCB.
    """
    root = _root(folder)
    pairs, problems, seen = {}, [], set()
    for split, file in LISTS.items():
        pairs[split] = []
        for where, fields in _lines((root / file).read_text(encoding="utf-8", errors="replace"), file):
            wrong = _wrong_entry(fields, seen)
            if wrong:
                problems.append(Problem(where, wrong))
                continue
            image, annotations = fields
            seen.add(image)
            pair, found = _read_pair(root, image, annotations, template, where)
            problems += found
            if pair is not None:
                pairs[split].append(pair)
    settle(problems, bad, str(root), IMAGES)
    return pairs


def _root(folder: Path) -> Path:
    """The folder that holds the lists: `folder` or its PCBData."""
    root = folder / "PCBData" if (folder / "PCBData").is_dir() else folder
    missing = [file for file in LISTS.values() if not (root / file).is_file()]
    if missing:
        coco = " It looks like one for the data set `coco`." if (folder / "annotations.json").is_file() else ""
        raise ValueError(f"`folder` must hold {' and '.join(missing)}, got {str(root)!r}: {held(root)}.{coco} {REMEDY}")
    return root


def _reader(pairs: Sequence[Pair]) -> Callable[[int], Board]:
    def read(index: int) -> Board:
        pair = pairs[index]
        board, *template = (binary(path, str(path)) for path in pair.images)
        return board, template[0] if template else None, pair.objects

    return read


def _lines(text: str, name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the fields of each line that is not empty."""
    return ((f"{name}:{number}", line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _wrong_entry(fields: list[str], seen: set[str]) -> str | None:
    if len(fields) != 2 or not fields[0].endswith(".jpg"):
        return f"expected `IMAGE.jpg ANNOTATIONS.txt`, got {' '.join(fields)!r}"
    return f"{fields[0]} is listed before" if fields[0] in seen else None


def _read_pair(
    root: Path, image: str, annotations: str, template: bool, where: str
) -> tuple[Pair | None, list[Problem]]:
    """The pair that the list names at `where`, None where it cannot be used, and its problems."""
    stem = image.removesuffix(".jpg")
    names = [f"{stem}_test.jpg", f"{stem}_temp.jpg"][: 1 + template]
    found = [_file_size(root / name) for name in names]
    unusable = [
        Problem(name, f"{size} (listed in {where})")
        for name, size in zip(names, found, strict=True)
        if isinstance(size, str)
    ]
    try:
        text = (root / annotations).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        unusable.append(Problem(annotations, f"the annotations cannot be read: {error.strerror} (listed in {where})"))
        return None, unusable
    objects, wrong = _read_objects(text, annotations)
    if unusable:
        return None, unusable + wrong
    sizes = tuple(size for size in found if isinstance(size, int))
    images = tuple(root / name for name in names)
    return Pair(stem, images, sizes, text, objects, _flaw(stem, images)), wrong


def _flaw(name: str, images: tuple[Path, ...]) -> str:
    """The flawed image of a board that is known for one; empty where it is another board, or has been mended."""
    known = FLAWED.get(name)
    if known is None or (known.image == "template" and len(images) < 2):
        return ""
    try:
        with open_image(images[known.image == "template"]) as image:
            pixels = np.asarray(image.convert("RGB"))
    except broken():
        return ""  # named when it is read
    if known.image == "template":
        return known.image if pixels.min() == pixels.max() else ""
    return known.image if np.mean(np.ptp(pixels, axis=-1) > COLOURED) > PAINTED else ""


def _file_size(path: Path) -> int | str:
    """The size of an image file in bytes, or what is wrong with it."""
    found = header(path)
    if isinstance(found, str):
        return found
    if (found.width, found.height) != (SIDE, SIDE):
        return f"expected an image of {SIDE} x {SIDE} pixels, got {found.width} x {found.height}"
    if found.mode not in ("L", "RGB"):
        return f"expected a grey image (mode L, or RGB without colours), got mode {found.mode}"
    return found.bytes


def _read_objects(text: str, name: str) -> tuple[Objects, list[Problem]]:
    """The right boxes of an annotation file, and what is wrong with the others."""
    boxes, labels, problems = [], [], []
    for where, fields in _lines(text, name):
        wrong = _wrong_annotation(fields)
        if wrong:
            problems.append(Problem(where, wrong))
        else:
            boxes.append([float(field) for field in fields[:4]])
            labels.append(int(fields[4]) - 1)
    return Objects.of(boxes, labels), problems


def _wrong_annotation(fields: list[str]) -> str | None:
    try:
        x1, y1, x2, y2, kind = fields
        box, label = [float(side) for side in (x1, y1, x2, y2)], int(kind)
    except ValueError:
        return f"expected `x1 y1 x2 y2 type` in numbers, got {' '.join(fields)!r}"
    if not 1 <= label <= len(CLASSES):
        known = ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES, 1))
        return f"unknown class {label}. Known: {known}"
    return wrong_box(box, SIDE, SIDE)
