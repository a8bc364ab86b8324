"""The embedded data set of a text classifier: reviews from a grammar, no folder and no network needed."""

import numpy as np

from qat import data
from qat.data.source import Dataset
from qat.data.text.dataset import content, sources, text_dataset
from qat.data.text.grammar import reviews
from qat.data.text.lexicon import vocabulary
from qat.data.text.sentences import Labelled
from qat.data.text.tokenizer import word_pieces

CLASSES = ("negative", "positive")


@data.register
def sentiment(
    examples: int = 8000,
    seed: int = 0,
    held_out: float = 0.125,
    length: int = 48,
    buckets: tuple[int, ...] | None = None,
) -> Dataset:
    """Generated reviews `tokens` int32[length] with `mask` and `label`, 0 negative and 1 positive.

    What decides is the order of the words: negation, contrast, strength, what others said and whether they are right;
    see `qat.data.text.grammar`. Counting words tells little. `examples` are for training; validation and test have
    `held_out` of that number each, and no review is in two splits. A token is a word; a model needs an embedding of
    the data set's `vocabulary` rows. Longer reviews are cut to `length` tokens, and batches to `buckets`.
    """
    if examples < 1 or not 0 < held_out <= 1:
        raise ValueError(
            f"`examples` must be at least 1 and `held_out` in (0, 1], the part of them that validation and test have; "
            f"got {examples} and {held_out}."
        )
    few = max(1, round(held_out * examples))
    texts, values = zip(*reviews(examples + 2 * few, np.random.default_rng(seed)), strict=True)
    labels = (np.array(values) > 0).astype(np.int32)
    ends = {"train": slice(examples), "validation": slice(examples, -few), "test": slice(-few, None)}
    parts = {split: Labelled(texts[part], labels[part]) for split, part in ends.items()}
    splits = sources("sentiment", parts, word_pieces(vocabulary()), length)
    return text_dataset("sentiment", splits, content(parts), CLASSES, buckets)
