"""A source of texts with labels, tokenized at first use, with a line on stderr for those that are too long."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qat.data.source import Columns, Example, Source
from qat.data.text.tokenizer import Text, Tokenizer


@dataclass(frozen=True)
class Labelled:
    """Texts, or pairs of them, and the number of each one's class."""

    texts: Sequence[Text]
    labels: np.ndarray


@dataclass(frozen=True)
class Sentences:
    """`count` examples: `tokens` int32[length], [PAD] beyond the text, `mask` bool[length], true on it, `label` int32.

    `read()` gives the texts, called once, at first use; `name` says of what on stderr.
    """

    name: str
    count: int
    read: Callable[[], Labelled]
    tokenizer: Tokenizer
    length: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        return self.columns[index]

    def gather(self, indices: Sequence[int] | np.ndarray) -> Example:
        """The examples at `indices`, stacked."""
        return self.columns.gather(indices)

    @cached_property
    def labelled(self) -> Labelled:
        """The texts and labels that were read, in the order of the examples."""
        return self.read()

    @property
    def texts(self) -> list[str]:
        """The texts in the order of the examples, as they were before they were cut; of pairs both, with ` | `."""
        return [text if isinstance(text, str) else " | ".join(text) for text in self.labelled.texts]

    @cached_property
    def columns(self) -> Columns:
        """All examples."""
        tokens, mask, cut = self.tokenizer.encode(self.labelled.texts, self.length)
        if cut:
            sys.stderr.write(f"{self.name}: {cut} of {self.count} texts have more than {self.length} tokens, cut.\n")
        return Columns({"tokens": tokens, "mask": mask, "label": self.labelled.labels.astype(np.int32)})


def texts_of(source: Source) -> list[str]:
    """The texts of a source in the order of its examples; none where its examples are something else."""
    return source.texts if isinstance(source, Sentences) else []


def labels_of(source: Source) -> np.ndarray:
    """The labels of a source of texts in the order of its examples; none where its examples are something else."""
    return source.labelled.labels if isinstance(source, Sentences) else np.empty(0, np.int32)
