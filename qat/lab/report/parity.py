"""Certificates of parity as tables: a row for each way to run a model, and one for each site that differs."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.export.parity import Certificate, CodeCounts, Row, SiteParity

HEADS = ("run in", "codes, fed", "by", "codes, end to end", "by", "largest output difference", "same decision")
SITE_HEADS = ("site", "weights", "codes, fed", "by", "codes, end to end", "by")
MOST_SITES = 30

type Line = tuple[str, ...]


def heads(certificate: Certificate) -> Line:
    """The heads of the table of rows."""
    metric = certificate.metric
    if metric is None:
        return HEADS
    return (*HEADS, f"{metric.name}, {metric.unit}" if metric.unit else metric.name)


def lines(certificate: Certificate) -> Iterator[Line]:
    """A line of text for each way to run the model, under `heads`."""
    for row in certificate.rows:
        yield _line(certificate, row)


def _line(certificate: Certificate, row: Row) -> Line:
    fed, whole, outputs = _codes(row.codes(fed=True)), _codes(row.codes()), row.outputs
    if outputs is None:
        largest, same = "reference", ""
    else:
        share = outputs.agreement
        largest = "bit-equal" if row.is_equal else f"{outputs.largest:.3g} of {outputs.greatest:.3g}"
        same = "" if share is None else f"{share:.2%}"
    metric = certificate.metric
    shown = () if metric is None else (f"{metric.factor * row.metrics[metric.name]:.2f}",)
    return (row.name, *fed, *whole, largest, same, *shown)


def _codes(counts: CodeCounts | None) -> tuple[str, str]:
    if counts is None:
        return "not seen", ""
    return ("equal" if counts.different == 0 else f"{counts.share:.4%}"), (
        "" if not counts.largest else f"{counts.largest}"
    )


def site_lines(row: Row) -> list[Line]:
    """A line for each site of a row that differs or cannot be seen, in the order of the data's flow."""
    return [_site(site) for site in row.sites if _differs(site) or not site.is_seen]


def _differs(site: SiteParity) -> bool:
    counts = [one for one in (site.fed, site.end_to_end) if one is not None]
    return site.weights is False or any(one.different for one in counts)


def _site(site: SiteParity) -> Line:
    weights = {True: "equal", False: "differ", None: ""}[site.weights]
    if not site.is_seen:
        return (site.id, weights, site.note, "", "", "")
    return (site.id, weights, *_codes(site.fed), *_codes(site.end_to_end))


def sentences(certificate: Certificate) -> list[str]:
    """The summary of a certificate, what is known of its differences, and the bounds that are broken."""
    compared = f"Codes and outputs are compared with {certificate.reference}."
    said = [f"{certificate.examples:,} examples: {certificate.inputs}. {compared}"]
    for row in certificate.rows:
        seen = [site for site in row.sites if site.fed is not None or site.end_to_end is not None]
        if row.is_file and seen:
            equal = sum(not _differs(site) for site in seen)
            first = row.first_divergence
            where = "" if first is None else f"; end to end the first that differs is {first}"
            said.append(f"{row.name} ({row.about}): integers equal at {equal} of {len(seen)} sites{where}.")
        said += [f"{row.name}: {note}" for note in row.notes]
    return [*said, *certificate.notes, *(f"BROKEN: {one}" for one in certificate.broken)]


def tables(certificate: Certificate) -> Iterator[Table]:
    """The tables for the terminal."""
    title = f"Parity of {certificate.file} ({certificate.kind}) with {certificate.recipe or 'the float model'}"
    yield _table(title, heads(certificate), list(lines(certificate)))
    for row in certificate.rows:
        if row.is_file and (found := site_lines(row)):
            more = f", the first {MOST_SITES} of {len(found)}" if len(found) > MOST_SITES else ""
            yield _table(f"{row.name}: sites that differ{more}", SITE_HEADS, found[:MOST_SITES])


def _table(title: str, names: Line, found: list[Line]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for line in found:
        table.add_row(*map(Text, line))
    return table
