"""Texts with labels in files of one's own."""

from pathlib import Path

from qat import data
from qat.data.dataset import Dataset
from qat.data.problems import check_bad
from qat.data.text.dataset import chosen, content, held_out_of, sources, text_dataset
from qat.data.text.labels import check_headed, class_names, numbered
from qat.data.text.rows import read_table
from qat.data.text.tokenizer import CHECKPOINT, open_tokenizer


@data.register
def text_file(
    train: str,
    test: str | None = None,
    validation: str | None = None,
    text: str = "text",
    label: str = "label",
    tokenizer: str = CHECKPOINT,
    length: int = 128,
    bad: str = "refuse",
    held_out: float = 0.1,
    seed: int = 0,
    buckets: tuple[int, ...] | None = None,
) -> Dataset:
    """Texts `tokens` int32[length] with `mask` and `label`, from files in UTF-8 that end in .tsv or .txt (tabs), .csv
    or .jsonl.

    `text` and `label` name the columns; a file of two columns may do without names. Labels may be any strings: the
    classes are those of the training file, in the order of the alphabet, or of their values where all are whole
    numbers. A file that is not given is replaced by `held_out` of train, drawn by `seed`.
    `tokenizer` is a folder or `hf:PATH_OR_ID`; longer texts are cut to `length` tokens, and batches to `buckets`.
    With `bad` "drop" wrong rows, and those with a label never seen in training, are left out and listed on stderr; by
    default they are refused.
    """
    check_bad(bad, "rows")
    given = {"train": train, "validation": validation, "test": test}
    paths = {split: Path(name).expanduser() for split, name in given.items() if name is not None}
    tables = {split: read_table(path, text, label) for split, path in paths.items()}
    check_headed(list(tables.values()))
    parts = numbered(tables, None, bad)
    missing = [split for split in given if split not in parts]
    if missing:
        stays, *drawn = held_out_of(len(parts["train"].texts), held_out, seed, len(missing))
        parts |= {split: chosen(parts["train"], some) for split, some in zip(missing, drawn, strict=True)}
        parts["train"] = chosen(parts["train"], stays)
    parts = {split: parts[split] for split in given}
    splits = sources("text_file", parts, open_tokenizer(tokenizer), length)
    return text_dataset("text_file", splits, content(parts), class_names(tables["train"].rows), buckets)
