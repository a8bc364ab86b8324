"""The page's section on the files for other runtimes."""

from collections.abc import Iterable

from qat.lab.report.exports import HEADS, Line
from qat.lab.report.html.markup import Html, join, table, tag

NOTE = "Each file has a description beside it, FILE.json, which tells its inputs and outputs."


def export_section(lines: Iterable[Line]) -> Html:
    """The lines for the page."""
    kinds = ["number" if name == "kB" else "" for name in HEADS]
    return join(table(HEADS, lines, "Exported files", kinds), tag("p", NOTE, class_="faint"))
