"""From records to what a researcher looks at: `summarize`, tables, pictures, a page."""

from qat.report.contents import read_contents
from qat.report.files import rows_of, title_of, write_report
from qat.report.summary import Row, summarize
from qat.report.table import rich_table

__all__ = ["Row", "read_contents", "rich_table", "rows_of", "summarize", "title_of", "write_report"]
