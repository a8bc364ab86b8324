"""A tokenizer of a few words, and files of texts."""

from pathlib import Path

import pytest

WORDS = (
    "the", "film", "is", "good", "bad", "dull", "not", "very", "but", "fine", "a", "plot", "was", "long", "tok",
    "##en", "##s", "好", "坏", "电", "影", ".", ",",
)  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A folder with a BERT's vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]) + "\n", encoding="utf-8")
    return str(folder)


@pytest.fixture
def save(tmp_path):
    """Writes a file, of text or bytes, and gives its path."""

    def write(name, content):
        path = Path(tmp_path / name)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write
