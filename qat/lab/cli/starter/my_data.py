"""A data set of your own: replace the drawn points by your arrays."""

import numpy as np

from qat import data


@data.register
def my_points(examples: int = 1200) -> data.Dataset:
    """Points of a plane in three rings, one class a ring: `image` float32[2] and `label` int32.

    The fingerprint changes with the data: what was trained on other data is trained anew.
    """
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, examples).astype(np.int32)
    angle, radius = rng.uniform(0, 2 * np.pi, examples), 1.0 + label + rng.normal(0, 0.15, examples)
    image = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
    first, second = examples // 2, 3 * examples // 4
    parts = {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, None)}
    splits = {name: data.Columns({"image": image[part], "label": label[part]}) for name, part in parts.items()}
    return data.Dataset(
        "my_points", splits, classes=3, input_shape=(2,), fingerprint=data.fingerprint(image, label, "2:1:1")
    )
