"""Texts with labels: files, tokenizers, and the examples that a classifier reads."""

from qat.data.text.dataset import text_dataset
from qat.data.text.sentences import Labelled, Sentences, texts_of
from qat.data.text.tokenizer import Tokenizer, open_tokenizer, word_pieces

__all__ = ["Labelled", "Sentences", "Tokenizer", "open_tokenizer", "text_dataset", "texts_of", "word_pieces"]
