"""A comparison as tables in the terminal."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.texts.compare import Comparison, Outcome


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
    told = ", ".join(f"{name} {100 * value:.2f} %" for name, value in outcome.metrics.items())
    table = Table(title=Text(f"{outcome.name}: {told}"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("label")
    for name in names:
        table.add_column(Text(f"said {name}"), justify="right")
    for name, row in zip(names, outcome.counts, strict=True):
        table.add_row(Text(name), *map(str, row))
    return table
