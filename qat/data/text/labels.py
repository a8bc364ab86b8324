"""From labels as they are written to the numbers of classes."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from qat.data.problems import ROWS, Problem, settle
from qat.data.text.rows import Row, Table
from qat.data.text.sentences import Labelled
from qat.fileio import MOST_CLASSES

MOST_NAMED = 10  # classes that an error lists
FEW_CLASSES = 100  # that may all be of one text each
SHOWN = 60  # signs of a label
LONGEST_NUMBER = 1000  # digits; Python takes no more than a few thousand for a number


def numbered(tables: Mapping[str, Table], classes: Sequence[str] | None, bad: str) -> dict[str, Labelled]:
    """The right rows of each split with their classes' numbers, by `classes`, or in the order of the training labels.

    Raises `ValueError` for wrong rows and for labels that are none of the classes, all at once; with `bad` "drop"
    they are left out and listed. A split in which nothing is left is refused, and a training split of one label.
    """
    known = class_names(tables["train"].rows) if classes is None else tuple(classes)
    if classes is None:
        _check_repeated(tables["train"], known)
    number = {name: place for place, name in enumerate(known)}
    problems = [problem for table in tables.values() for problem in table.problems]
    parts = {}
    for split, table in tables.items():
        rows = [row for row in table.rows if row.label in number]
        if len(known) > 1:
            problems += [_unknown(row, known, classes is None) for row in table.rows if row.label not in number]
        parts[split] = Labelled([row.text for row in rows], np.array([number[row.label] for row in rows], np.int32))
    names = dict.fromkeys(table.name for table in tables.values())
    settle(list(dict.fromkeys(problems)), bad, ", ".join(names), ROWS)
    if len(occurring := [known[label] for label in np.unique(parts["train"].labels)]) < 2:
        raise ValueError(f"`train` must hold texts of at least two labels, got {occurring}.")
    if empty := [tables[split].name for split, part in parts.items() if not part.texts]:
        raise ValueError(f"Every split must hold at least one text with a label, got none in {', '.join(empty)}.")
    return parts


def class_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The labels that occur, whole numbers in the order of their values, others in that of the alphabet."""
    found = {row.label for row in rows}
    numeric = all(len(name) <= LONGEST_NUMBER and name.removeprefix("-").isdecimal() for name in found)
    return tuple(sorted(found, key=lambda name: (int(name), name)) if numeric else sorted(found))


def check_headed(tables: Sequence[Table]) -> None:
    """Raise `ValueError` where the first row of a table has a label that none but first rows have: it names columns."""
    for table in tables:
        if table.headed or not table.rows:
            continue
        first = table.rows[0]
        others = (row for other in tables for row in itertools.islice(other.rows, 0 if other.headed else 1, None))
        if not any(row.label == first.label for row in others):
            raise ValueError(
                f"{first.where} must name columns or hold a text with a label, got {first.text!r} and {first.label!r}, "
                f"a label of no other row. Pass text={first.text!r} and label={first.label!r} if these are columns."
            )


def _check_repeated(train: Table, known: Sequence[str]) -> None:
    """Raise `ValueError` where labels hardly ever repeat: they are no classes."""
    count = len(known)
    if count > MOST_CLASSES or (count > FEW_CLASSES and 2 * count > len(train.rows)):
        raise ValueError(
            f"`label` must name a column of classes, got {count:,} different labels in the {len(train.rows):,} rows of "
            f"{train.name}, such as {known[0][:SHOWN]!r}. Are `text` and `label` the other way round?"
        )


def _unknown(row: Row, known: Sequence[str], learned: bool) -> Problem:
    named = ", ".join(map(repr, known[:MOST_NAMED])) + (" and others" if len(known) > MOST_NAMED else "")
    what = "is never seen in training" if learned else "is unknown"
    return Problem(row.where, f"label {row.label!r} {what}. Known: {named}")
