"""Summaries and verdicts of kept studies, as `qat report FILE.csv` prints them: they take the places of
`<!-- summary: NAME -->` and `<!-- verdicts: NAME -->`."""

import functools
import re

from qat.lab.report.kept import read_kept
from qat.lab.report.summary import summarize
from qat.lab.report.table import markdown
from sitegen import results

MARK = re.compile(r"<!-- (summary|verdicts): (\w+) -->")


def filled(text: str) -> str:
    """A page with the summary or the verdicts of a kept study at each mark."""
    return MARK.sub(lambda mark: _part(mark[2], mark[1]), text)


def _part(name: str, part: str) -> str:
    """The table with its notes, or what follows it: declared contrasts and other comparisons."""
    summary, *verdicts = re.split(r"^## ", _report(name), flags=re.MULTILINE)
    return summary if part == "summary" else "\n".join(f"### {one}" for one in verdicts)


@functools.cache
def _report(name: str) -> str:
    """The report of a kept study in Markdown, without its title."""
    kept = read_kept(results.kept(name))
    text = markdown(summarize(kept.records, kept.outcomes, None, kept.contrasts), kept.name)
    return re.sub(r"\A# .*\n", "", text)
