"""The summary as a table: for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.report.summary import Row
from qat.stats import Estimate

CAPTION = (
    "Means over n seeds ± half of the 95 % interval (Student t); drops in points, paired by seed, positive is worse. "
    "Quantized arms are measured on the served integers; size is the model's file."
)
TEXT = ("trial", "arm", "recipe")


def rich_table(rows: Sequence[Row], title: str) -> Table:
    """For the terminal."""
    table = Table(title=Text(title), caption=CAPTION, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (columns := _columns(rows)):
        text = heading in TEXT
        table.add_column(heading, justify="left" if text else "right", no_wrap=text, overflow="fold")
    for i in range(len(rows)):
        table.add_row(*(Text(cells[i]) for cells in columns.values()))
    return table


def markdown(rows: Sequence[Row], title: str) -> str:
    """A Markdown table under its title."""
    columns = _columns(rows)
    rule = ["---" if heading in TEXT else "---:" for heading in columns]
    lines = [list(columns), rule, *zip(*columns.values(), strict=True)]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"# {title}\n\n{body}\n\n{CAPTION}\n"


def csv_text(rows: Sequence[Row]) -> str:
    """The numbers behind the table, unrounded; an empty cell where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    estimates = ("accuracy", "drop_from_float", "drop_from_control")
    numbers = [f"{name}{part}" for name in estimates for part in ("", "_low", "_high")]
    writer.writerow(["trial", "arm", "recipe", "n", *numbers, "size_bytes", "size_ratio"])
    for row in rows:
        values = [value for name in estimates for value in _numbers(getattr(row, name))]
        head = [row.label, row.arm, row.recipe, row.accuracy.n]
        writer.writerow(["" if cell is None else cell for cell in (*head, *values, row.size_bytes, row.size_ratio)])
    return out.getvalue()


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Cells by heading; the trials' labels where arm and recipe do not tell the rows apart."""
    arms = [(row.arm, row.recipe) for row in rows]
    labels = {} if len(set(arms)) == len(arms) else {"trial": [row.label for row in rows]}
    return labels | {
        "arm": [row.arm for row in rows],
        "recipe": [row.recipe or "" for row in rows],
        "n": [str(row.accuracy.n) for row in rows],
        "accuracy, %": [_shown(row.accuracy) for row in rows],
        "drop / float": [_shown(row.drop_from_float, sign=True) for row in rows],
        "drop / control": [_shown(row.drop_from_control, sign=True) for row in rows],
        "size, kB": [f"{row.size_bytes / 1000:,.1f}" for row in rows],
        "smaller": [f"{row.size_ratio:.2f}x" if row.size_ratio else "" for row in rows],
    }


def _shown(value: Estimate | None, sign: bool = False) -> str:
    if value is None:
        return ""
    rounded = round(value.mean, 2) + 0.0  # no -0.00
    mean = f"{rounded:+.2f}" if sign else f"{rounded:.2f}"
    return mean if value.half_width is None else f"{mean} ± {value.half_width:.2f}"


def _numbers(value: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if value is None else (value.mean, value.low, value.high)
