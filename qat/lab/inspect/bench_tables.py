"""A benchmark of deployed models as tables."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.export.operators import OperatorTime
from qat.fileio import MEGA
from qat.lab.inspect.bench import Benchmark, Extent, Timed

HEADS = ("model", "runtime", "ms", "95 %", "ratio", "kB", "memory", "cold", "integers")
CAPTION = (
    "ms: median of a call and its interval; ratio: to the first row; kB: of the file; memory: most MB, and cold: "
    "seconds, of a process that runs it once; integers: operators of so many sites."
)
OPERATOR_HEADS = ("operator", "kind", "site", "ms")


def ratio_table(found: Benchmark, extent: Extent) -> Table:
    """Rows with their ratios to the first, which is float in XLA where a trial is timed."""
    threads = "as many threads as each runtime chooses" if extent.threads is None else f"{extent.threads} threads"
    title = f"{extent.rounds} rounds in turns, batch {extent.batch}, {threads}"
    table = _table(title, HEADS, [_line(row) for row in found.rows])
    table.caption, table.caption_justify = Text(CAPTION), "left"
    return table


def operator_table(name: str, times: Sequence[OperatorTime]) -> Table:
    """The operators' times of one row."""
    lines = [(one.name, one.op, one.site or "", f"{one.ms:.3f}") for one in times]
    return _table(f"{name}: the slowest operators", OPERATOR_HEADS, lines)


def _line(row: Timed) -> tuple[str, ...]:
    return (
        row.name,
        row.runtime,
        f"{row.ms:.3g}",
        f"{row.low:.3g}-{row.high:.3g}",
        f"{row.ratio:.2f}",
        "" if row.size is None else f"{row.size / 1000:,.0f}",
        "" if row.memory is None else f"{row.memory / MEGA:,.0f}",
        "" if row.cold is None else f"{row.cold:.1f}",
        "" if row.integers is None else f"{row.integers}/{row.sites}",
    )


def _table(title: str, heads: Sequence[str], lines: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for place, name in enumerate(heads):
        table.add_column(name, justify="right" if place > 1 else "left", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    return table
