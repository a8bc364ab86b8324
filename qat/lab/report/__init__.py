"""From records to what a researcher looks at: `summarize`, tables, pictures, a page."""

from qat.lab.report.contents import read_contents
from qat.lab.report.summary import Row, summarize
from qat.lab.report.table import rich_table
from qat.lab.report.write import rows_of, title_of, write_report

__all__ = ["Row", "read_contents", "rich_table", "rows_of", "summarize", "title_of", "write_report"]
