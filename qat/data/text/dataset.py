"""Shared parts of the data sets of labelled texts."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from qat.data.buckets import buckets_up_to
from qat.data.dataset import Dataset
from qat.data.source import fingerprint
from qat.data.text.sentences import Labelled, Sentences
from qat.data.text.tokenizer import Tokenizer, check_length


def text_dataset(
    name: str,
    splits: Mapping[str, Sentences],
    content: str,
    class_names: tuple[str, ...],
    buckets: tuple[int, ...] | None,
) -> Dataset:
    """The data set of sources that share tokenizer and length; `content` is a digest of their texts, labels and order.

    `buckets` are lengths to cut batches to, by default those of `qat.data.buckets`, none for `()`.
    """
    tokenizer, length = splits["train"].tokenizer, splits["train"].length
    return Dataset(
        name,
        splits,
        classes=len(class_names),
        input_shape=(length,),
        fingerprint=fingerprint(content, tokenizer.content, f"{length} {class_names}"),
        task=f"text_classification(class_names={class_names!r})",
        class_names=class_names,
        buckets=buckets_up_to(length, buckets),
        vocabulary=tokenizer.vocabulary,
    )


def content(parts: Mapping[str, Labelled]) -> str:
    """A digest of texts and labels."""
    return fingerprint(*(f"{split}: {part.texts!r} {part.labels.tolist()}" for split, part in parts.items()))


def sources(name: str, parts: Mapping[str, Labelled], tokenizer: Tokenizer, length: int) -> dict[str, Sentences]:
    """A source for each part of what is in memory."""
    check_length(length)
    return {
        split: Sentences(f"{name}, {split}", len(part.texts), functools.partial(_same, part), tokenizer, length)
        for split, part in parts.items()
    }


def held_out_of(count: int, held_out: float, seed: int, times: int = 1) -> list[np.ndarray]:
    """Indices of what stays, then of `times` parts of `held_out` drawn by `seed`, each in ascending order."""
    if not 0 < held_out < 0.5:
        raise ValueError(f"`held_out` must be in (0, 0.5), got {held_out}. It is the part of train for another split.")
    order = np.random.default_rng(seed).permutation(count)
    each = max(1, round(held_out * count))
    if count <= each * times:
        raise ValueError(f"`train` must hold enough texts to draw {times} other splits from it, got {count}.")
    drawn = [order[i * each : (i + 1) * each] for i in range(times)]
    return [np.sort(order[each * times :]), *(np.sort(part) for part in drawn)]


def chosen(part: Labelled, indices: Sequence[int] | np.ndarray) -> Labelled:
    """Select texts."""
    return Labelled([part.texts[int(i)] for i in indices], part.labels[np.asarray(indices)])


def _same(part: Labelled) -> Labelled:
    return part
