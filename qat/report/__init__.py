"""From records to what a researcher looks at: `summarize`, tables, a plot."""

from qat.report.files import write_report
from qat.report.summary import Row, summarize
from qat.report.table import rich_table

__all__ = ["Row", "rich_table", "summarize", "write_report"]
