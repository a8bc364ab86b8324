"""The page's section on the files for other runtimes."""

from collections.abc import Iterable

from qat.lab.report.exports import HEADS, Line
from qat.lab.report.html.markup import Html, join, tag

NOTE = "Each file has a description beside it, FILE.json, which tells its inputs and outputs."


def export_section(lines: Iterable[Line]) -> Html:
    """The lines for the page."""
    head = tag("tr", *(tag("th", name, scope="col") for name in HEADS))
    rows = [
        tag(
            "tr",
            tag("th", line[0], scope="row"),
            *(tag("td", text, class_="number") if name == "kB" else tag("td", text) for name, text in _rest(line)),
        )
        for line in lines
    ]
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    box = tag("div", table, class_="box", tabindex="0", role="region", aria_label="Exported files")
    return join(box, tag("p", NOTE, class_="faint"))


def _rest(line: Line) -> Iterable[tuple[str, str]]:
    return zip(HEADS[1:], line[1:], strict=True)
