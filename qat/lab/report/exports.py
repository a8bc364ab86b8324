"""The files for other runtimes that trials left, a line each."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.lab.runs.record import Record

HEADS = ("trial", "exporter", "file", "kB", "notes")

type Line = tuple[str, ...]


def export_lines(records: Iterable[Record]) -> list[Line]:
    """A line of text for each exported file, in the order of the records."""
    return [
        (record.trial, one["kind"], one["file"], f"{one['bytes'] / 1000:,.1f}", " ".join(one["notes"]) or "-")
        for record in records
        for one in record.exports
    ]


def export_table(lines: Iterable[Line]) -> Table:
    """The lines for the terminal."""
    table = Table(title="Exported files", title_justify="left", box=SIMPLE_HEAD)
    for name in HEADS:
        table.add_column(name, justify="right" if name == "kB" else "left", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    return table
