"""Two finished trials on the same test texts: metrics, confusion matrices, and the texts on which they differ."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qat import data
from qat.config import ExperimentConfig
from qat.data.text.sentences import texts_of
from qat.files import CONFIG_FILE, EXAMPLES_FILE
from qat.record import Record, read_record
from qat.report.pairing import Baselines
from qat.signature import Signature, read_signature
from qat.storage import write_atomically
from qat.sweep.folder import TRIALS, read_study
from qat.tasks.text_classification import confusion


@dataclass(frozen=True)
class Outcome:
    """A model's predictions on the test split, by example; `counts[label, prediction]` is its confusion matrix."""

    name: str
    metrics: dict[str, float]
    predictions: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Two outcomes on the same texts. `differ` are the places of the texts that got different predictions, first those
    that the second model, the baseline, had right."""

    first: Outcome
    second: Outcome
    texts: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...]
    differ: list[int]

    def write(self, path: Path) -> None:
        """Write the texts on which the two differ as CSV: text, label, and both predictions."""
        buffer = io.StringIO()
        rows = csv.writer(buffer, lineterminator="\n")
        rows.writerow(["text", "label", self.first.name, self.second.name])
        for i in self.differ:
            named = (self.class_names[x[i]] for x in (self.labels, self.first.predictions, self.second.predictions))
            rows.writerow([self.texts[i], *named])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())


def compare(trial: Path, beside: Path | None = None) -> Comparison:
    """The finished trial in a folder beside another one, by default the float model that it started from.

    Raises `ValueError` for trials that are not finished, classify no texts, or were measured on other data.
    """
    record, signature = _read(trial)
    other = _float_trial(trial, record) if beside is None else beside
    theirs, their_signature = _read(other)
    if signature != their_signature or record.examples != theirs.examples:
        raise ValueError(
            f"{str(trial)!r} and {str(other)!r} were measured on different data. Name trials of one study."
        )
    config = ExperimentConfig.model_validate_json((trial / CONFIG_FILE).read_text(encoding="utf-8"))
    texts = texts_of(data.load(config.data).splits["test"])
    arrays = [_arrays(folder, len(texts)) for folder in (trial, other)]
    outcomes = [_outcome(one, found, signature) for one, found in zip((record, theirs), arrays, strict=True)]
    labels, (first, second) = arrays[0]["label"], outcomes
    differ = np.flatnonzero(first.predictions != second.predictions)
    order = np.argsort(second.predictions[differ] != labels[differ], kind="stable")
    names = tuple(signature.name(label) for label in range(signature.classes))
    return Comparison(first, second, texts, labels, names, differ[order].tolist())


def _read(folder: Path) -> tuple[Record, Signature]:
    record = read_record(folder)
    if record is None:
        raise ValueError(f"{str(folder)!r} holds no finished trial. Name a folder such as RUNS/trials/ID.")
    signature = read_signature(folder)
    task = signature.task.partition("(")[0]
    if task != "text_classification":
        raise ValueError(f"{str(folder)!r} must hold a classifier of texts, but its task is {task}.")
    return record, signature


def _float_trial(trial: Path, record: Record) -> Path:
    root = trial.absolute().parent.parent
    found = Baselines(read_study(root).scan().records.values()).float_or_self(record)
    if found is not None:
        return root / TRIALS / found.trial
    raise ValueError(
        f"no finished trial in {str(root)!r} is the float model of {str(trial)!r}. Name one with --beside."
    )


def _arrays(folder: Path, count: int) -> dict[str, np.ndarray]:
    with np.load(folder / EXAMPLES_FILE) as found:
        arrays = {name: found[name] for name in ("label", "prediction")}
    if len(arrays["label"]) != count:
        raise ValueError(
            f"{str(folder)!r} was measured on {len(arrays['label'])} texts, but the data set has {count} now. "
            "Run its study again."
        )
    return arrays


def _outcome(record: Record, arrays: dict[str, np.ndarray], signature: Signature) -> Outcome:
    name = record.arm if record.recipe is None else f"{record.arm} {record.recipe}"
    return Outcome(
        name,
        {k: record.metrics[k] for k in ("accuracy", "f1")},
        arrays["prediction"],
        confusion(arrays, signature.classes),
    )
