"""The embedded data set of a detector: boards that are drawn, no folder needed."""

import numpy as np

from qat import data
from qat.data.boards.draw import board, most_defects
from qat.data.dataset import Dataset
from qat.data.deeppcb.files import CLASSES
from qat.data.images.augment import Augmentation, check_fits
from qat.data.images.binary import BinaryImages, pack
from qat.data.images.pictures import padded, sides
from qat.data.images.reading import shown
from qat.data.source import Columns, fingerprint

SAMPLES = 2  # boards of each split in the fingerprint


@data.register
def boards(
    images: int = 1000,
    seed: int = 0,
    size: int = 320,
    template: bool = True,
    held_out: float = 0.1,
    crop: int | None = None,
    mosaic: float = 0.0,
) -> Dataset:
    """Drawn circuit boards with DeepPCB's six kinds of defects, in the form of the data set `deeppcb`.

    `image` is uint8[size, size, 2], or [size, size, 1] without `template`; a board of 640 pixels has three to ten
    defects of 25 to 70 pixels, a smaller one fewer of the same size. `images` are for training; validation and test
    have `held_out` of that number each. A split is drawn at first use, always the same for one `seed`. Training
    batches are cropped to `crop` pixels (None: not at all), turned and flipped, `mosaic` of them joined from four.
    """
    if images < 1 or not 0 < held_out <= 1:
        raise ValueError(
            f"`images` must be at least 1 and `held_out` in (0, 1], the part of them that validation and test have; "
            f"got {images} and {held_out}."
        )
    side, _ = sides(size)
    shape = (side, side, 2 if template else 1)
    augment = Augmentation(crop, mosaic=mosaic)
    check_fits(augment, shape)
    few = max(1, round(held_out * images))
    counts = {"train": images, "validation": few, "test": few}
    splits = {name: _drawn(name, (seed, i), counts[name], shape) for i, name in enumerate(counts)}
    samples = [_board((seed, i, index), shape) for i in range(len(counts)) for index in range(SAMPLES)]
    return Dataset(
        "boards",
        splits,
        classes=len(CLASSES),
        input_shape=shape,
        fingerprint=fingerprint(f"{counts} {seed} {shape}", *(bits for bits, _ in samples)),
        task=f"detection(class_names={CLASSES!r})",
        augment=augment,
        class_names=CLASSES,
    )


def _board(key: tuple[int, ...], shape: tuple[int, int, int]):
    image, template, objects = board(shape[0], np.random.default_rng(key))
    return pack(image, template if shape[2] == 2 else None), objects


def _drawn(name: str, key: tuple[int, int], count: int, shape: tuple[int, int, int]) -> BinaryImages:
    def read() -> Columns:
        each = shown((_board((*key, index), shape) for index in range(count)), count, f"Drawing boards, {name}")
        bits, objects = zip(*each, strict=True)
        scale = np.ones(count, np.float32)
        return Columns({"image": np.stack(bits), "scale": scale, **padded(objects, most_defects(shape[0]))})

    return BinaryImages(count, shape, read)
