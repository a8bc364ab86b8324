"""GLUE's classification tasks as tensorflow-datasets prepared them, in ArrayRecord files, read without TensorFlow."""

import functools
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qat import data
from qat.data.dataset import Dataset
from qat.data.images.reading import shown
from qat.data.source import fingerprint
from qat.data.text.dataset import held_out_of, text_dataset
from qat.data.text.sentences import Labelled, Sentences
from qat.data.text.tokenizer import CHECKPOINT, Text, Tokenizer, check_length, open_tokenizer
from qat.data.tfds import newest_version, records
from qat.registry import did_you_mean


class Kind(NamedTuple):
    """The fields of a task's texts, its classes in the order of the labels, and the split that is used for testing."""

    fields: tuple[str, ...]
    classes: tuple[str, ...]
    test: str = "validation"


SAME = ("not_equivalent", "equivalent")
FOLLOWS = ("entailment", "not_entailment")
THREE = ("entailment", "neutral", "contradiction")
TASKS = {
    "cola": Kind(("sentence",), ("unacceptable", "acceptable")),
    "sst2": Kind(("sentence",), ("negative", "positive")),
    "mrpc": Kind(("sentence1", "sentence2"), SAME),
    "qqp": Kind(("question1", "question2"), ("not_duplicate", "duplicate")),
    "mnli": Kind(("premise", "hypothesis"), THREE, "validation_matched"),
    "qnli": Kind(("question", "sentence"), FOLLOWS),
    "rte": Kind(("sentence1", "sentence2"), FOLLOWS),
    "wnli": Kind(("sentence1", "sentence2"), ("not_entailment", "entailment")),
}
REMEDY = (
    "Where TensorFlow is installed, run `tfds build glue/TASK --file_format=array_record --data_dir=DIR`, "
    "copy DIR here and pass it as `data_dir`, or set TFDS_DATA_DIR to it."
)


@data.register
def glue(
    task: str,
    data_dir: str | None = None,
    tokenizer: str = CHECKPOINT,
    length: int = 128,
    held_out: float = 0.1,
    seed: int = 0,
    buckets: tuple[int, ...] | None = None,
) -> Dataset:
    """Texts `tokens` int32[length] with `mask` and `label` of one of `TASKS` (Wang et al. 2018, arXiv 1804.07461).

    `data_dir` is the folder that holds `glue/TASK/<version>`; by default TFDS_DATA_DIR or `~/tensorflow_datasets`.
    GLUE's test labels are not public: its validation split (of mnli the matched one) is the test split, and validation
    is `held_out` of train, drawn by `seed`. Two texts of a pair have a [SEP] between them, and no other mark.
    `tokenizer` is a folder or `hf:PATH_OR_ID`; longer texts are cut to `length` tokens, and batches to `buckets`.
    """
    if task not in TASKS:
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.{did_you_mean(task, TASKS)}")
    check_length(length)
    kind = TASKS[task]
    more = f"{REMEDY.replace('TASK', task)} The data set `sst2` reads GLUE's own files."
    folder = newest_version(data_dir, f"glue/{task}", more)
    found = records(folder, ("train", kind.test), functools.partial(_wrong, kind), "GLUE data", REMEDY)
    train, test = found["train"], found[kind.test]
    stays, drawn = held_out_of(len(train), held_out, seed)
    core = open_tokenizer(tokenizer)
    name = f"glue {task}"
    splits = {
        "train": _source(f"{name}, train", train, stays, kind, core, length),
        "validation": _source(f"{name}, validation", train, drawn, kind, core, length),
        "test": _source(f"{name}, test", test, np.arange(len(test)), kind, core, length),
    }
    sys.stderr.write(f"{name}: {kind.test} is the test split, and {len(drawn)} texts of train are the validation.\n")
    files = sorted(f"{path.name}:{path.stat().st_size}" for path in folder.iterdir())
    return text_dataset(name, splits, fingerprint(*files, drawn), kind.classes, buckets)


def _wrong(kind: Kind, split: str, record: Any) -> str | None:
    missing = {*kind.fields, "label"} - set(record)
    return f"records of {split} have no {', '.join(sorted(missing))}" if missing else None


def _source(
    name: str, records: Sequence[Any], indices: np.ndarray, kind: Kind, tokenizer: Tokenizer, length: int
) -> Sentences:
    return Sentences(name, len(indices), functools.partial(_read, name, records, indices, kind), tokenizer, length)


def _read(name: str, records: Sequence[Any], indices: np.ndarray, kind: Kind) -> Labelled:
    """The texts of some records. Raises `ValueError` for a label that is none of the classes."""
    texts: list[Text] = []
    labels = np.empty(len(indices), np.int32)
    rows = (records[int(index)] for index in indices)
    for place, record in enumerate(shown(rows, len(indices), f"Reading {name}")):
        try:
            found = [_decoded(record[field]) for field in kind.fields]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name} must hold texts in UTF-8, got others in record {indices[place]}: {error}."
            ) from None
        texts.append(found[0] if len(found) == 1 else (found[0], found[1]))
        labels[place] = record["label"]
    wrong = np.flatnonzero((labels < 0) | (labels >= len(kind.classes)))
    if wrong.size:
        label, record = labels[wrong[0]], indices[wrong[0]]
        raise ValueError(f"{name} must have labels from 0 to {len(kind.classes) - 1}, got {label} in record {record}.")
    return Labelled(texts, labels)


def _decoded(text: Any) -> str:
    return text.decode("utf-8") if isinstance(text, bytes) else str(text)
