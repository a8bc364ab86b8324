"""Test examples as a page can show them, from the data set where it is at hand: images, texts, true labels."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qat import data
from qat.data.dataset import Dataset
from qat.data.text.sentences import texts_of
from qat.fileio import describe_error
from qat.lab.report.contents import Contents
from qat.lab.runs.settings import config_of
from qat.registry import parse_call

LARGE = 320  # pixels of an image's longer side
PHOTO = 64  # pixels from which on an image is kept as a photograph
TEXT = 700  # characters
BUDGET = 1_500_000  # characters of all images and texts


@dataclass(frozen=True)
class Samples:
    """Examples by index: each has `image` (a data URL) with its `size` in pixels, or `text`, and the `label` or the
    `objects` (corners and label) that are true. `names` are the classes', `note` says what is not here, and why."""

    shown: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    note: str = ""


def samples(contents: Contents, trials: Iterable[str], wanted: Iterable[int], labels: Mapping[int, int]) -> Samples:
    """The `wanted` examples of the test split that these trials were measured on, the first ones that fit on a page.

    `labels` are true ones that the trials' outcomes tell of, by example. Where the data set is not at hand, is of the
    user's own code that this process has not run, or is no longer what was measured on, there are none, and the note
    says why.
    """
    named = Counter(_data_of(contents.folder(trial)) for trial in trials)
    named.pop(None, None)
    if len(named) != 1:
        return Samples(note="The trials were measured on several data sets: examples are told by their index alone.")
    (text,) = named
    assert text is not None
    try:
        dataset = _known(text, contents)
        return _read(dataset, wanted, labels)
    except Exception as error:  # a page does not fail for data that have gone
        why = (str(error) if isinstance(error, ValueError) else describe_error(error)).strip().rstrip(".")
        return Samples(note=f"Examples are told by their index alone. The data set {text!r} is not shown: {why}.")


def _data_of(folder: Path) -> str | None:
    try:
        return config_of(folder)["data"]
    except ValueError:
        return None


def _known(text: str, contents: Contents) -> Dataset:
    """The data set, if it is registered here and is the one that was measured on. Raises `ValueError`."""
    name = parse_call(text)[0]
    if name not in data.names():
        raise ValueError(f"{name!r} is of the study's own code, which a report does not run")
    dataset = data.load(text)
    then = {found for one in contents.manifests.values() if (found := one.get("data_fingerprint"))}
    if then != {dataset.fingerprint}:
        raise ValueError("it is not the one that was measured on, going by its fingerprint")
    return dataset


def _read(dataset: Dataset, wanted: Iterable[int], labels: Mapping[int, int]) -> Samples:
    split, budget = dataset.filled("test"), BUDGET
    texts, found, omitted = texts_of(split), {}, 0
    for i in wanted:
        example = split[i]
        if i in labels and "label" in example and int(example["label"]) != labels[i]:
            raise ValueError("its labels are not those that were measured on")
        made = _sample(example, texts[i] if texts else None)
        budget -= len(made.get("image", made.get("text", "")))
        if budget < 0:
            omitted += 1
        else:
            found[i] = made
    note = f"{omitted:,} of the examples are left out to keep the page small." if omitted else ""
    return Samples(found, dataset.class_names, note)


def _sample(example: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "label" in example and np.ndim(example["label"]) == 0:
        made["label"] = int(example["label"])
    if text is not None:
        return {**made, "text": text[:TEXT] + ("..." if len(text) > TEXT else "")}
    image = example.get("image")
    if image is not None and np.ndim(image) in (2, 3):
        made |= {"image": _url(np.asarray(image)), "size": [int(image.shape[1]), int(image.shape[0])]}
    if "boxes" in example and "labels" in example:
        there = np.asarray(example["labels"]) >= 0
        corners = np.round(np.asarray(example["boxes"])[there]).astype(int).tolist()
        made["objects"] = [
            [*box, int(one)] for box, one in zip(corners, np.asarray(example["labels"])[there], strict=True)
        ]
    return made


def _url(image: np.ndarray) -> str:
    """An image as a data URL: a small one as it is, a large one smaller and as a photograph. Of more than three
    channels, or of two, the first is shown; numbers other than bytes, and bits, are
    spread from black to white."""
    from PIL import Image

    channels = image if image.ndim == 2 or image.shape[-1] == 3 else image[..., 0]
    if channels.dtype != np.uint8 or channels.max(initial=0) <= 1:
        low, high = float(channels.min(initial=0.0)), float(channels.max(initial=1.0))
        channels = np.round(255 * (channels.astype(np.float64) - low) / (high - low)).astype(np.uint8)
    made, buffer = Image.fromarray(channels), io.BytesIO()
    kind = "jpeg" if max(made.size) > PHOTO else "png"
    made.thumbnail((LARGE, LARGE))
    made.save(buffer, kind, **({"quality": 70} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
