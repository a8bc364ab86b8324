"""The page's section on the parity of exported files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from qat.export.parity import Certificate
from qat.lab.report.html.markup import Html, join, table, tag
from qat.lab.report.parity import SITE_HEADS, heads, lines, sentences, site_lines
from qat.lab.runs.parity import read_parity

MOST_SITES = 200


def read_parities(folders: Mapping[str, Path]) -> dict[str, list[Certificate]]:
    """The certificates in the folders of trials, by trial; damaged ones are passed over."""
    found = {}
    for trial, folder in folders.items():
        try:
            certificates = list(read_parity(folder).values())
        except (ValueError, OSError):
            continue
        if certificates:
            found[trial] = certificates
    return found


def parity(found: Mapping[str, list[Certificate]]) -> Html:
    """Tell of every exported file whether what runs there is what was measured."""
    return join(*(_certificate(trial, one) for trial, certificates in found.items() for one in certificates))


def _certificate(trial: str, certificate: Certificate) -> Html:
    name = f"{trial}: {certificate.file}"
    said = [tag("p", one, class_="warning" if one.startswith("BROKEN") else "") for one in sentences(certificate)]
    signed = f"Of the file {certificate.content}, the model {certificate.model}, inputs {certificate.data}."
    return join(
        tag("h3", name),
        table(heads(certificate), lines(certificate), f"Parity of {name}"),
        *said,
        *_sites(name, certificate),
        tag("p", signed, class_="faint"),
    )


def _sites(name: str, certificate: Certificate) -> Iterable[Html]:
    for row in certificate.rows:
        if row.is_file and (found := site_lines(row)):
            sites = table(SITE_HEADS, found[:MOST_SITES], f"Sites of {name} in {row.name}")
            yield tag("details", tag("summary", f"{row.name}: {len(found)} sites that differ"), sites)
