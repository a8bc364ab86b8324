"""Two finished trials on the same test texts: metrics, confusion matrices, and the texts on which they differ."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat import data
from qat.data.text.sentences import labels_of, texts_of
from qat.fileio import write_atomically
from qat.lab.inspect.trial import Trial, read_finished
from qat.lab.report.pairing import Baselines
from qat.lab.runs.examples import load_examples
from qat.lab.runs.record import Record
from qat.lab.runs.study_folder import TRIALS, read_study, root_of
from qat.tasks.metric import Metric
from qat.tasks.text_classification import confusion

KIND = ("text_classification", "a classifier of texts")


@dataclass(frozen=True)
class Outcome:
    """A model's predictions on the test split, by example; `counts[label, prediction]` is its confusion matrix."""

    name: str
    metrics: dict[Metric, float]
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


def compare(trial: str | Path, other: str | Path | None = None, *, trust: bool = False) -> Comparison:
    """Compare the finished trial in a folder with another one, by default the float model that it started from.

    Files of their study that they need are run where they are in the current project, or by `trust`. Raises
    `ValueError` where they are not, and for trials that are not finished, classify no texts, or were measured on other
    data.
    """
    one = read_finished(trial, *KIND, trust=trust)
    folder = _float_trial(one.folder, one.record) if other is None else other
    another = read_finished(folder, *KIND, trust=trust)
    signature = one.signature
    if signature != another.signature or one.record.examples != another.record.examples:
        raise ValueError(
            f"{str(trial)!r} and {str(another.folder)!r} were measured on different data. Name trials of one study."
        )
    split = data.load(one.config.data).splits["test"]
    texts, labels = texts_of(split), labels_of(split)
    first, second = (_outcome(each, _arrays(each.folder, labels)) for each in (one, another))
    differ = np.flatnonzero(first.predictions != second.predictions)
    order = np.argsort(second.predictions[differ] != labels[differ], kind="stable")
    names = tuple(signature.name(label) for label in range(signature.classes))
    return Comparison(first, second, texts, labels, names, differ[order].tolist())


def _float_trial(trial: Path, record: Record) -> Path:
    root = root_of(trial)
    found = Baselines(read_study(root).scan().records.values()).float_or_self(record)
    if found is not None:
        return root / TRIALS / found.trial
    raise ValueError(
        f"no finished trial in {str(root)!r} is the float model of {str(trial)!r}. Name one with --compare."
    )


def _arrays(folder: Path, labels: np.ndarray) -> dict[str, np.ndarray]:
    """A trial's labels and predictions; `ValueError` where its labels are not these."""
    arrays = load_examples(folder, ("label", "prediction"))
    if not np.array_equal(arrays["label"], labels):
        raise ValueError(
            f"{str(folder)!r} was measured on {len(arrays['label'])} texts with other labels than the {len(labels)} of "
            "the data set. Name trials of one study, and run that again where its data have changed."
        )
    return arrays


def _outcome(trial: Trial, arrays: dict[str, np.ndarray]) -> Outcome:
    known = trial.record.metrics
    shown = {metric: known[metric.name] for metric in map(trial.record.metric_of, ("accuracy", "f1"))}
    return Outcome(trial.name, shown, arrays["prediction"], confusion(arrays, trial.signature.classes))


def tables(found: Comparison, most: int) -> Iterator[Table]:
    """A confusion matrix for each model, then at most `most` of the texts on which they differ."""
    yield from (_matrix(one, found.class_names) for one in (found.first, found.second))
    shown = found.differ[:most]
    title = f"{len(found.differ)} of {len(found.texts)} texts get different predictions"
    title += f", {len(shown)} of them here" if len(shown) < len(found.differ) else ""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("text", "label", found.first.name, found.second.name):
        table.add_column(Text(heading), overflow="fold")
    for i in shown:
        label = found.class_names[found.labels[i]]
        cells = (found.class_names[one.predictions[i]] for one in (found.first, found.second))
        table.add_row(
            Text(found.texts[i]),
            Text(label),
            *(Text(cell, style="green" if cell == label else "red") for cell in cells),
        )
    yield table


def _matrix(outcome: Outcome, names: tuple[str, ...]) -> Table:
    shown = ((one, one.text(one.shown(value))) for one, value in outcome.metrics.items())
    told = ", ".join(f"{one.name} {number} {one.unit}".rstrip() for one, number in shown)
    table = Table(title=Text(f"{outcome.name}: {told}"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("label")
    for name in names:
        table.add_column(Text(f"said {name}"), justify="right")
    for name, row in zip(names, outcome.counts, strict=True):
        table.add_row(Text(name), *map(str, row))
    return table
