"""SST-2: sentences of film reviews, negative or positive, in the layout of the GLUE download."""

import os
import sys
from pathlib import Path

from qat import data
from qat.data.dataset import Dataset
from qat.data.problems import MissingDataError, check_bad, held
from qat.data.text.dataset import chosen, content, held_out_of, sources, text_dataset
from qat.data.text.labels import numbered
from qat.data.text.rows import columns, read_table
from qat.data.text.sentences import Labelled
from qat.data.text.tokenizer import CHECKPOINT, open_tokenizer

VARIABLE = "QAT_SST2"
FILES = ("train.tsv", "dev.tsv", "test.tsv")
COLUMNS = ("sentence", "label")
CLASSES = ("negative", "positive")
REMEDY = (
    f"Pass the folder of SST-2 from the GLUE download, or set {VARIABLE} to it; "
    "the data set `sentiment` makes sentences of its own and needs no folder."
)


@data.register
def sst2(
    folder: str | None = None,
    tokenizer: str = CHECKPOINT,
    length: int = 128,
    bad: str = "refuse",
    held_out: float = 0.1,
    seed: int = 0,
    buckets: tuple[int, ...] | None = None,
) -> Dataset:
    """Sentences `tokens` int32[length] with `mask` and `label`, 0 negative and 1 positive (Socher et al. 2013; GLUE,
    Wang et al. 2018, arXiv 1804.07461).

    `folder` holds `train.tsv`, `dev.tsv` and `test.tsv` with columns `sentence` and `label`; by default that in
    QAT_SST2. Validation is dev. Where `test.tsv` has no labels, as GLUE publishes it, or is not there, dev is the test
    split instead and validation is `held_out` of train, drawn by `seed`, which is said on stderr.
    `tokenizer` is a folder or `hf:PATH_OR_ID`; longer sentences are cut to `length` tokens, and batches to `buckets`.
    With `bad` "drop" wrong rows are left out and listed on stderr; by default they are refused.
    """
    check_bad(bad, "rows")
    root = _folder(folder or os.environ.get(VARIABLE))
    labelled = (root / "test.tsv").is_file() and "label" in columns(root / "test.tsv")
    files = dict(zip(("train", "validation", "test") if labelled else ("train", "test"), FILES, strict=False))
    _check_columns([root / file for file in files.values()])
    tables = {split: read_table(root / file, *COLUMNS) for split, file in files.items()}
    parts = _named(numbered(tables, ("0", "1"), bad), held_out, seed)
    splits = sources("sst2", parts, open_tokenizer(tokenizer), length)
    return text_dataset("sst2", splits, content(parts), CLASSES, buckets)


def _folder(name: str | None) -> Path:
    if not name:
        raise MissingDataError(f"`folder` must name the data, got none. {REMEDY}")
    root = Path(name).expanduser()
    missing = [file for file in FILES[:2] if not (root / file).is_file()]
    if missing:
        raise ValueError(f"`folder` must hold {' and '.join(missing)}, got {str(root)!r}: {held(root)}. {REMEDY}")
    return root


def _check_columns(paths: list[Path]) -> None:
    """Raise `ValueError` for the files whose first line does not name the columns."""
    others = {path.name: found for path in paths if not set(found := columns(path)) >= set(COLUMNS)}
    if others:
        raise ValueError(f"`folder` must hold files with the columns {COLUMNS}, got {others}. {REMEDY}")


def _named(parts: dict[str, Labelled], held_out: float, seed: int) -> dict[str, Labelled]:
    """Train, validation and test; the validation drawn from train where dev has to be the test split."""
    if "validation" in parts:
        return parts
    stays, drawn = held_out_of(len(parts["train"].texts), held_out, seed)
    sys.stderr.write(
        f"sst2: there is no test.tsv with labels. dev.tsv is the test split, and {len(drawn)} sentences of train.tsv "
        "are the validation split.\n"
    )
    return {
        "train": chosen(parts["train"], stays),
        "validation": chosen(parts["train"], drawn),
        "test": parts["test"],
    }
