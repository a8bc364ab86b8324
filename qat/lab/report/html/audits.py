"""The page's section on the audits of calibration."""

from collections.abc import Mapping
from pathlib import Path

from qat.lab.report.html.markup import Html, join, table, tag
from qat.lab.runs.audits import HEADS, Found, lines, read_audit, sentence


def read_audits(folders: Mapping[str, Path]) -> dict[str, Found]:
    """The whole audits in the folders of trials, by trial; one that is damaged or on its way is passed over."""
    found = {}
    for trial, folder in folders.items():
        try:
            audit = read_audit(folder)
        except ValueError:
            continue
        if audit is not None and audit.is_whole:
            found[trial] = audit
    return found


def audits(found: Mapping[str, Found]) -> Html:
    """Tell how many samples each audited calibration needs, with the scores that say so."""
    return join(*(_audit(trial, one) for trial, one in found.items()))


def _audit(trial: str, found: Found) -> Html:
    box = table(HEADS, lines(found), f"Audit of {trial}")
    note = f"{found.metric.heading} of validation data, simulated, by the samples that ranges were calibrated on."
    return join(tag("h3", trial), tag("p", sentence(found)), box, tag("p", note, class_="faint"))
