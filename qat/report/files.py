"""The report as files beside the records: `table.csv`, `table.md` and `accuracy.png`."""

from collections.abc import Sequence
from pathlib import Path

from qat.report.summary import Row
from qat.report.table import csv_text, markdown
from qat.storage import write_atomically


def write_report(root: Path, rows: Sequence[Row], title: str) -> list[Path]:
    """Write the files into `root` and return where they are. The plot needs rows of quantized arms to compare."""
    texts = {root / "table.csv": csv_text(rows), root / "table.md": markdown(rows, title)}
    for path, text in texts.items():
        write_atomically(path, text)
    if not any(row.recipe for row in rows):
        return list(texts)
    from qat.report.plot import accuracy_plot

    plot = root / "accuracy.png"
    plot.write_bytes(accuracy_plot(rows, title))
    return [*texts, plot]
