"""Texts in requests: one or two that belong together, to tokens of one of a few lengths."""

from typing import Any

import numpy as np

from qat.data import Dataset
from qat.data.text.sentences import Sentences
from qat.fileio import MOST_SIGNS
from qat.lab.runs.manifest import Signature
from qat.lab.serving.servable import (
    MALFORMED,
    OTHER_INPUT,
    Form,
    Prepared,
    Rejected,
    named_probabilities,
    other_class,
)

MEDIA = frozenset({"text/plain"})


def text_form(signature: Signature, dataset: Dataset) -> Form:
    """The form of a text classifier, by the tokenizer and length of its data set.

    Raises `ValueError` for a data set of texts that has no tokenizer of ours.
    """
    source = dataset.splits["test"]
    if not isinstance(source, Sentences):
        raise ValueError(
            f"the data set {dataset.name!r} must tokenize texts as `qat.data.text.Sentences` does, for its tokenizer "
            f"to be used on requests; its test split is a {type(source).__name__}."
        )
    core = _fitted(source)
    padding, sizes = core.token_to_id("[PAD]"), lengths(dataset, source.length)
    pairs = any(not isinstance(text, str) for text in source.labelled.texts[:1])
    names = tuple(signature.name(label) for label in range(signature.classes))

    def entry(value: Any) -> Prepared:
        encoded = core.encode(*_texts(value, pairs))
        length = next(size for size in sizes if size >= len(encoded.ids))
        tokens, mask = np.full(length, padding, np.int32), np.zeros(length, bool)
        tokens[: len(encoded.ids)], mask[: len(encoded.ids)] = encoded.ids, True
        return Prepared((tokens, mask), note={"cut": True} if encoded.overflowing else {})

    def raw(content: bytes) -> Prepared:
        try:
            return entry(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise Rejected(MALFORMED, f"a text must be in UTF-8, but it is not at byte {error.start}.") from None

    return Form(
        "text_classification",
        "pairs of texts" if pairs else "texts",
        media=MEDIA,
        raw=raw,
        entry=entry,
        answer=lambda row, prepared: {**named_probabilities(row, names), **prepared.note},
        differ=other_class,
        samples=tuple(_sample(core, size) for size in sizes),
    )


def lengths(dataset: Dataset, longest: int) -> tuple[int, ...]:
    """The lengths that texts are filled up to: those of the data set's buckets that are powers of two, as each of them
    is compiled for each size of a batch, and the longest."""
    sizes = dataset.buckets.sizes if dataset.buckets else ()
    return (*(size for size in sizes if size < longest and size & (size - 1) == 0), longest)


def _fitted(source: Sentences) -> Any:
    """The tokenizer that cuts texts as the data set did, made once: `Tokenizer.encode` makes it at every call."""
    from tokenizers import Tokenizer as Core

    core = Core.from_str(source.tokenizer.core.to_str())
    core.no_padding()
    core.enable_truncation(source.length)
    return core


def _texts(value: Any, pairs: bool) -> tuple[str, ...]:
    """One text, or two. Raises `Rejected` for anything else, and for a text in which nothing stands."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if len(found) != 1 + pairs or not all(isinstance(text, str) for text in found):
        wanted = "a list of two texts" if pairs else "a text"
        raise Rejected(OTHER_INPUT, f"an input must be {wanted}, got {str(value)[:40]!r}.")
    for text in found:
        if not text.strip():
            raise Rejected(OTHER_INPUT, "a text must hold more than white space.")
        if len(text) > MOST_SIGNS:
            raise Rejected(OTHER_INPUT, f"a text must have at most {MOST_SIGNS:,} signs, got {len(text):,}.")
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise Rejected(OTHER_INPUT, "a text must hold whole signs, got half of a surrogate pair.")
    return found


def _sample(core: Any, size: int) -> Prepared:
    tokens, mask = np.full(size, core.token_to_id("[UNK]"), np.int32), np.ones(size, bool)
    tokens[0], tokens[-1] = core.token_to_id("[CLS]"), core.token_to_id("[SEP]")
    return Prepared((tokens, mask))
