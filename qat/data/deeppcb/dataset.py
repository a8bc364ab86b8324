"""DeepPCB: binarised images of circuit boards with six kinds of defects, each with its defect-free template."""

import os
from pathlib import Path

import numpy as np

from qat import data
from qat.data.dataset import Dataset
from qat.data.deeppcb.files import CLASSES, REMEDY, SIDE, VARIABLE, Listing, published
from qat.data.deeppcb.split import check_split, split
from qat.data.deeppcb.tfds_builder import prepared_folder, read_prepared
from qat.data.images.alignment import aligned
from qat.data.images.augment import Augmentation, check_fits
from qat.data.images.binary import BinaryImages, pack
from qat.data.images.pictures import padded
from qat.data.images.reading import read_all
from qat.data.problems import MissingDataError, check_bad
from qat.data.source import Columns, fingerprint


@data.register
def deeppcb(
    folder: str | None = None,
    template: bool = True,
    held_out: float = 0.1,
    seed: int | None = None,
    crop: int | None = 320,
    bad: str = "refuse",
    mosaic: float = 0.0,
    align: bool = True,
    jitter: int = 0,
    flawed: str = "drop",
) -> Dataset:
    """Boards `image` uint8[640, 640, 2], 0 where there is copper: the image under test, and where it differs from its
    template (Tang et al. 2019, arXiv 1902.06197); without `template` the image alone. Every fourth template lies
    pixels beside its board; with `align` each is moved to where it differs least (`qat.data.images.alignment`).

    `folder` is the published one, or what `qat.data.deeppcb.tfds_builder.prepare` made of it; by default that in
    QAT_DEEPPCB. `boxes` float32[rows, 4] are (x1, y1, x2, y2) in pixels, 0 beyond the objects; `labels` int32[rows]
    are 0 open, 1 short, 2 mousebite, 3 spur, 4 copper, 5 pin-hole, and -1 beyond the objects; `scale` is 1.
    Validation is for every choice, so it is whole groups of trainval (boards of a group share templates), at least
    `held_out` of its boards: the groups that have the fewest boards in test come first. All seven groups of trainval
    are in test too; the tenth that is held out by default is `group77000`, 100 boards, with 7 boards of its group among
    the 500 of test. With a `seed` single boards are drawn by it, and boards of one group are in train and validation.

    Four published boards are left out, and named on stderr (`qat.data.deeppcb.files.FLAWED`): test image
    group44000/44000/44000020 has its annotations painted into it, so that it tells what is to be found, and the
    templates 20085159, 20085167 and 20085168 are blank, so that the boards differ from them in all their copper;
    without `template` these three stay. `flawed` "keep" leaves the lists as published, 1,000 and 500 boards.

    Training batches are cropped to `crop` pixels (None: not at all), turned and flipped, `mosaic` of them joined from
    four crops, and the templates of half of them moved by up to `jitter` pixels.
    With `bad` "drop" a wrong annotation costs its box, an image that is missing or of another kind its example, and
    all are listed on stderr; by default they are refused. A split is decoded at first use.
    """
    check_split(held_out, flawed)
    check_bad(bad, "annotations")
    shape = (SIDE, SIDE, 2 if template else 1)
    augment = Augmentation(crop, mosaic=mosaic, jitter=jitter)
    check_fits(augment, shape)
    lists = _open(folder or os.environ.get(VARIABLE), template, bad)
    parts = split(lists, template, flawed, held_out, seed)
    splits = {
        name: _images(name, lists["test" if name == "test" else "trainval"], part, shape, align)
        for name, part in parts.items()
    }
    return Dataset(
        "deeppcb",
        splits,
        classes=len(CLASSES),
        input_shape=shape,
        fingerprint=fingerprint(*(one.content for one in lists.values()), *parts.values(), str(shape), str(align)),
        task=f"detection(class_names={CLASSES!r})",
        augment=augment,
        class_names=CLASSES,
    )


def _open(name: str | None, template: bool, bad: str) -> dict[str, Listing]:
    if not name:
        raise MissingDataError(f"`folder` must name the data, got none. {REMEDY}")
    folder = Path(name).expanduser()
    prepared = prepared_folder(folder)
    return read_prepared(prepared, template) if prepared else published(folder, template, bad)


def _images(name: str, listing: Listing, indices: np.ndarray, shape: tuple[int, int, int], align: bool) -> BinaryImages:
    def read() -> Columns:
        height, width, channels = shape
        bits = np.empty((len(indices), height, width * channels // 8), np.uint8)

        def read_one(place: int):
            board, template, objects = listing.read(int(indices[place]))
            if align and template is not None:
                template = aligned(board, template)
            bits[place] = pack(board, template)
            return objects

        objects = read_all(read_one, len(indices), f"Reading DeepPCB, {name}")
        scale = np.ones(len(indices), np.float32)
        return Columns({"image": bits, "scale": scale, **padded(objects, listing.rows)})

    return BinaryImages(len(indices), shape, read)
