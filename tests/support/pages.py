"""The page of a run folder as a file that a browser can open."""

from dataclasses import dataclass

from qat.lab.report.contents import Contents, read_contents
from qat.lab.report.html import page
from qat.lab.report.write import rows_of


@dataclass(frozen=True)
class Written:
    """What a run folder holds, its page, and the page's address."""

    contents: Contents
    text: str
    address: str


def written(root):
    """The page of a run folder, written into it."""
    contents = read_contents(root)
    text = page(contents, rows_of(contents))
    path = root / "page.html"
    path.write_text(text, encoding="utf-8")
    return Written(contents, text, path.as_uri())
