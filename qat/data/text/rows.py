"""Files of texts with labels, row by row: tab-separated, CSV or JSON lines; what is wrong with a row and where."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from qat.data.problems import Problem
from qat.fileio import MOST_SIGNS, parse_json, read_bytes

ESCAPED = range(0xDC80, 0xDD00)  # what surrogateescape makes of bytes that are no UTF-8
UTF16 = (b"\xff\xfe", b"\xfe\xff")

type Found = tuple[int, Sequence[Any] | Mapping[str, Any] | str]
"""The number of a row's first line, and its fields or what is wrong with it."""


class Row(NamedTuple):
    """A row's place in its file, its text and its label."""

    where: str
    text: str
    label: str


@dataclass(frozen=True)
class Table:
    """The right rows of a file and what is wrong with the others; whether its first line names the columns."""

    name: str
    rows: Sequence[Row]
    problems: Sequence[Problem]
    headed: bool


def read_table(path: Path, text: str = "text", label: str = "label") -> Table:
    """The rows of a file with columns `text` and `label`, by the end of its name: .tsv and .txt (tabs, no quotes), .csv
    (commas, quotes) or .jsonl.

    The first line names the columns; in a file of two columns it may be the first row. Empty lines are skipped. Raises
    `ValueError` for another kind of file, other columns or an encoding that is not UTF-8 throughout.
    """
    content = _content(path)
    found = _kind(path)(content)
    first = next((fields for _, fields in found if not isinstance(fields, str)), None)
    if first is None:
        raise ValueError(f"{path} must hold texts with labels, got no usable row.")
    places = _places(first, (text, label), path)
    headed = not isinstance(first, Mapping) and places is not None
    rows, problems = [], []
    for line, fields in found:
        if headed and fields is first:
            continue
        row = _row(f"{path}:{line}", fields, places or (0, 1), 2 if isinstance(first, Mapping) else len(first))
        (problems if isinstance(row, Problem) else rows).append(row)
    return Table(str(path), rows, problems, headed or isinstance(first, Mapping))


def columns(path: Path) -> list[str]:
    """The fields of the first line of a tab-separated file."""
    return next((list(map(str, fields)) for _, fields in _tabs(_content(path))), [])


def _content(path: Path) -> str:
    """The text of a file; bytes that are no UTF-8 are escaped, to be found in the row that has them."""
    try:
        raw = read_bytes(path, "texts")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if raw.startswith(UTF16):
        raise ValueError(f"{path} must be encoded in UTF-8, got UTF-16. Save it as UTF-8.")
    return raw.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")


def _kind(path: Path) -> Callable[[str], list[Found]]:
    kinds = {".tsv": _tabs, ".txt": _tabs, ".csv": _commas, ".jsonl": _json_lines}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"{path} must end in one of {', '.join(kinds)}, which say how its rows are written.")
    return lambda content: list(kinds[path.suffix.lower()](content))


def _lines(content: str) -> Iterator[tuple[int, str]]:
    lines = enumerate(content.split("\n"), 1)
    return ((number, line.removesuffix("\r")) for number, line in lines if line.strip("\r"))


def _tabs(content: str) -> Iterator[Found]:
    return ((number, line.split("\t")) for number, line in _lines(content))


def _commas(content: str) -> Iterator[Found]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"is not CSV: {error}"
            continue
        if fields:
            yield line, fields


def _json_lines(content: str) -> Iterator[Found]:
    for number, line in _lines(content):
        try:
            fields = parse_json(line)
        except ValueError as error:
            yield number, f"is not JSON: {error}"
            continue
        yield number, fields if isinstance(fields, dict) else f"expected an object, got {line[:40]!r}"


def _places(first: Any, names: tuple[str, str], path: Path) -> tuple[Any, Any] | None:
    """The keys or indices of the two columns; None where the first line is a row."""
    if all(name in first for name in names):
        return names if isinstance(first, Mapping) else (first.index(names[0]), first.index(names[1]))
    if isinstance(first, Mapping) or len(first) != 2 or any(name in first for name in names):
        raise ValueError(
            f"{path} must have the columns {names[0]!r} and {names[1]!r}, got {', '.join(map(repr, first))}. "
            "Say what they are called, such as text='sentence' and label='class'."
        )
    return None


def _row(where: str, fields: Any, places: tuple[Any, Any], count: int) -> Row | Problem:
    if isinstance(fields, str):
        return Problem(where, fields)
    if isinstance(fields, Mapping):
        missing = [name for name in places if name not in fields]
        if missing:
            return Problem(where, f"has no {' and no '.join(map(repr, missing))}")
    elif len(fields) != count:
        return Problem(where, f"expected {count} fields, got {len(fields)}")
    text, label = fields[places[0]], _label(fields[places[1]])
    if label is None:
        return Problem(where, "expected a label that is a string or a whole number")
    wrong = _wrong(text, label)
    return Problem(where, wrong) if wrong else Row(where, text, label)


def _label(value: Any) -> str | None:
    """The label as a string; None for what is none."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int) else None


def _wrong(text: Any, label: str) -> str | None:
    if not isinstance(text, str):
        return f"expected a text, got {text!r}"
    if len(text) + len(label) > MOST_SIGNS:
        return f"expected at most {MOST_SIGNS:,} signs, got {len(text) + len(label):,}"
    if wrong := _unwritable(text + label):
        return wrong
    if not text.strip():
        return "the text is empty"
    return None if label else "the label is empty"


def _unwritable(text: str) -> str | None:
    """The reason why a text cannot be written as UTF-8: a byte that was none, or half of a pair of surrogates, as JSON
    can say it.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        sign = ord(text[error.start])
        if sign in ESCAPED:
            return f"is not UTF-8: byte 0x{sign - 0xDC00:02x}"
        return f"holds half of a surrogate pair, U+{sign:04X}, which is no sign"
    return None
