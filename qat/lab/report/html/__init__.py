"""The report as one HTML page: `assemble` puts it together, from sections made here and by the scripts in `assets`."""

from qat.lab.report.html.page import page

__all__ = ["page"]
