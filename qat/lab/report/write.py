"""The report as files in `report/` of a run folder: a page, tables, and pictures of the arms."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from qat.fileio import write_atomically
from qat.lab.report.across import as_changes, combine
from qat.lab.report.contents import Contents, read_contents, states
from qat.lab.report.exports import export_lines, export_table
from qat.lab.report.html import page
from qat.lab.report.kept import read_kept
from qat.lab.report.pareto import COSTS, comparable, points
from qat.lab.report.summary import Row, summarize
from qat.lab.report.table import contrast_text, contrasts, csv_text, exploratory, markdown, rich_table

REPORT, ACROSS = "report", "across.html"


def rows_of(contents: Contents, margin: float | None = None) -> list[Row]:
    """The summary of what a run folder holds, compared per example too; `margin` as for `summarize`."""
    return summarize(contents.records.values(), contents.folders, margin, contents.contrasts)


def title_of(contents: Contents) -> str:
    """The study's name, and how many of its trials are finished unless all are."""
    whole = len(contents.records) == len(contents.trials)
    return contents.name if whole else f"{contents.name} ({states(contents)})"


def write_report(contents: Contents, rows: Sequence[Row]) -> list[Path]:
    """Write the report of a run folder and its summary, and return where its files are.

    It is `index.html`, `table.csv` and `table.md`, and once an arm has a number `recipes.png`, `size.png` and (where
    latencies were measured) `latency.png`.
    """
    folder = contents.root / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in _files(contents, rows):
        # JSON can name half a sign, which is no text to write.
        write_atomically(folder / name, content.encode("utf-8", "replace") if isinstance(content, str) else content)
        written.append(folder / name)
    return written


def _files(contents: Contents, rows: Sequence[Row]) -> Iterator[tuple[str, str | bytes]]:
    title = title_of(contents)
    yield "index.html", page(contents, rows)
    yield "table.csv", csv_text(rows)
    yield "table.md", markdown(rows, title)
    found = points(rows)
    if not found:
        return
    from qat.lab.report.plot import front_plot, recipe_plot

    metric = comparable(rows)[0].metric
    yield "recipes.png", recipe_plot(found, metric, title)
    for cost in COSTS:
        if any(getattr(one, cost) is not None for one in found):
            yield f"{cost}.png", front_plot(found, cost, metric, title)


def tell_report(root: Path, margin: float | None, out: Console, err: Console) -> None:
    """Write the report of a run folder and print it in short; `margin` is as for `summarize`."""
    contents = read_contents(root)
    for problem in contents.problems:
        err.print(f"Warning: {problem}", style="yellow", markup=False)
    rows = rows_of(contents, margin)
    if rows:
        out.print(rich_table(rows, title_of(contents)))
    if exported := export_lines(contents.records.values()):
        out.print(export_table(exported))
    _tell_contrasts(rows, len(contents.contrasts), out)
    found = exploratory(rows)
    decided = [verdict for verdict in found if verdict.kind != "undecided"]
    alone = sum(verdict.of_these_models is not None for verdict in found if verdict.kind == "undecided")
    for verdict in decided:
        out.print(verdict.text, markup=False, highlight=False)
    if len(decided) < len(found):
        part = f", {alone} of them decided for these models alone" if alone else ""
        kind = "exploratory comparisons" if contents.contrasts else "comparisons"
        undecided = f"{len(found) - len(decided)} of {len(found)} {kind} are undecided{part}"
        out.print(f"{undecided}; the report says of each why.")
    for path in write_report(contents, rows):
        out.print(str(path), markup=False, highlight=False, soft_wrap=True)


def tell_across(roots: Sequence[Path], margin: float | None, out: Console, err: Console) -> None:
    """Write one page of several studies of one task, `report/across.html` in the last one's folder, and print what has
    changed from each to the next. Raises `ValueError` where they are not of one task."""
    contents = combine([read_contents(root) for root in roots])
    for problem in contents.problems:
        err.print(f"Warning: {problem}", style="yellow", markup=False)
    rows = as_changes(rows_of(contents, margin))
    for verdict in contrasts(rows):
        out.print(verdict.text, markup=False, highlight=False)
    if not contents.contrasts:
        out.print("No arm is in two of them: what changed cannot be told.")
    folder = contents.root / REPORT
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / ACROSS, page(contents, rows).encode("utf-8", "replace"))
    out.print(str(folder / ACROSS), markup=False, highlight=False, soft_wrap=True)


def tell_kept(file: Path, margin: float | None, out: Console) -> None:
    """Recompute the summary and the verdicts of a study from what was kept of it, and print them all."""
    kept = read_kept(file)
    rows = summarize(kept.records, kept.outcomes, margin, kept.contrasts)
    out.print(rich_table(rows, kept.name))
    _tell_contrasts(rows, len(kept.contrasts), out)
    for verdict in exploratory(rows):
        out.print(verdict.text, markup=False, highlight=False)


def _tell_contrasts(rows: Sequence[Row], declared: int, out: Console) -> None:
    """Print the verdicts on the declared contrasts, undecided ones too."""
    found = contrasts(rows)
    for verdict in found:
        out.print(f"Declared: {contrast_text(verdict)}", markup=False, highlight=False)
    if len(found) < declared:
        out.print(f"{declared - len(found)} of {declared} declared contrasts have no results yet.")
