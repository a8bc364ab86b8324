"""Handwritten digits of 8 x 8 pixels, real ones, bundled with scikit-learn: a data set that is always there."""

import numpy as np

from qat import data
from qat.data.dataset import Dataset
from qat.data.source import Columns, fingerprint

GREY_LEVELS = 16.0


@data.register
def digits(held_out: float = 0.15, seed: int = 0) -> Dataset:
    """1797 images `image` float32[8, 8, 1] in [0, 1] with `label` int32 (Alpaydin and Kaynak 1998).

    Validation and test take `held_out` of each class each; `seed` decides who goes where.
    """
    if not 0 < held_out < 0.5:
        raise ValueError(f"`held_out` must be in (0, 0.5), got {held_out}. It is the part of validation and of test.")
    from sklearn.datasets import load_digits

    pixels, target = map(np.asarray, load_digits(return_X_y=True))
    image = (pixels.reshape(-1, 8, 8, 1) / GREY_LEVELS).astype(np.float32)
    label = target.astype(np.int32)
    parts = _stratified(label, held_out, seed)
    splits = {name: Columns({"image": image[part], "label": label[part]}) for name, part in parts.items()}
    return Dataset(
        "digits", splits, classes=10, input_shape=(8, 8, 1), fingerprint=fingerprint(image, label, *parts.values())
    )


def _stratified(label: np.ndarray, held_out: float, seed: int) -> dict[str, np.ndarray]:
    """Indices of each split, in the source's order, with the classes in equal parts."""
    rng = np.random.default_rng(seed)
    split = np.full(len(label), "train", dtype="<U10")
    for one in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == one))
        count = round(held_out * len(members))
        split[members[:count]], split[members[count : 2 * count]] = "validation", "test"
    return {name: np.flatnonzero(split == name) for name in ("train", "validation", "test")}
