"""A study's report told on a terminal: its table, what is decided, and where the files are."""

from pathlib import Path

from rich.console import Console

from qat.report.contents import read_contents
from qat.report.files import rows_of, title_of, write_report
from qat.report.table import rich_table


def tell_report(root: Path, margin: float | None, out: Console, err: Console) -> None:
    """Write the report of a run folder and print it in short; `margin` is as for `summarize`."""
    contents = read_contents(root)
    for problem in contents.problems:
        err.print(f"Warning: {problem}", style="yellow", markup=False)
    rows = rows_of(contents, margin)
    if rows:
        out.print(rich_table(rows, title_of(contents)))
    found = [verdict for row in rows for verdict in row.verdicts.values()]
    decided = [verdict for verdict in found if verdict.kind != "undecided"]
    alone = sum(verdict.of_these_models is not None for verdict in found if verdict.kind == "undecided")
    for verdict in decided:
        out.print(verdict.text, markup=False, highlight=False)
    if len(decided) < len(found):
        part = f", {alone} of them decided for these models alone" if alone else ""
        undecided = f"{len(found) - len(decided)} of {len(found)} comparisons are undecided{part}"
        out.print(f"{undecided}; the report says of each why.")
    for path in write_report(contents, rows):
        out.print(str(path), markup=False, highlight=False, soft_wrap=True)
