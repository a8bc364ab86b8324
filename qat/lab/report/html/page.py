"""The page from its parts."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from qat import __version__
from qat.lab.report.contents import Contents, states
from qat.lab.report.exports import export_lines
from qat.lab.report.html.audits import audits, read_audits
from qat.lab.report.html.differences import differences
from qat.lab.report.html.differences import facts as different_facts
from qat.lab.report.html.examples import Changed, changed, examples, facts
from qat.lab.report.html.exports import export_section
from qat.lab.report.html.markup import Html, join, own_script, plotly_script, policy, style, tag
from qat.lab.report.html.methods import has_allocation, has_steps, methods
from qat.lab.report.html.parity import parity, read_parities
from qat.lab.report.html.payload import Details, attached, data, details
from qat.lab.report.html.sections import all_trials, failures, fronts, origin, single_trials, warnings
from qat.lab.report.html.trials import group_of, provenance
from qat.lab.report.html.verdicts import answer
from qat.lab.report.pareto import points
from qat.lab.report.summary import Row

VIEWPORT = "width=device-width, initial-scale=1"

type Section = tuple[str, str, Html]
"""Anchor, title and content."""


def page(contents: Contents, rows: Sequence[Row], live: str | None = None) -> str:
    """The page of a study and the rows of its summary.

    With `live`, a text that changes when the study does, the page belongs to a server and asks it for that text at
    `state`; otherwise it may load nothing at all.
    """
    groups = group_of(contents, rows)
    inner, flipped = details(contents, groups), changed(contents, groups)
    sections, is_live = list(_sections(contents, rows, inner, flipped)), live is not None
    scripts = [plotly_script(), own_script(is_live)]
    parts = [
        *_top(contents, sections, is_live),
        _main(sections),
        _foot(),
        *data(contents, rows, inner),
        attached("flips-data", facts(flipped)),
        attached("facts", different_facts(contents)),
        tag("datalist", id="names"),
    ]
    body = tag("body", *parts, *(tag("script", one) for one in scripts))
    stamp: dict[str, str | bool] = {} if live is None else {"data_stamp": live}
    return "<!doctype html>\n" + tag("html", _head(contents, policy(scripts, is_live)), body, lang="en", **stamp)


def _head(contents: Contents, allowed: str) -> Html:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=allowed),
        tag("meta", name="viewport", content=VIEWPORT),
        tag("title", f"{contents.name}: quantization study"),
        tag("link", rel="icon", href="data:,"),
        tag("style", style()),
    )


def _sections(contents: Contents, rows: Sequence[Row], inner: Details, flipped: Changed) -> Iterator[Section]:
    """Yield the sections that have something to show."""
    ran, found, lost = provenance(contents.manifests), points(rows), len(contents.given_up) + len(contents.problems)
    yield "answer", "Answer", join(*warnings(ran), answer(rows, contents.about, contents.compares))
    if found:
        yield "fronts", "Quality against cost", fronts(found)
    yield "examples", "Examples", examples(flipped)
    if inner.curves or inner.layers:
        yield "inside", "Curves and layers", single_trials(inner.left_out)
    yield from _checks(contents, rows, has_layers=bool(inner.layers))
    yield "trials", "All trials", all_trials()
    yield "differences-of-two", "What differs", differences(contents)
    yield "failures", f"Failures ({lost})" if lost else "Failures", failures(contents)
    yield "origin", "Where it ran", origin(ran)


def _checks(contents: Contents, rows: Sequence[Row], *, has_layers: bool) -> Iterator[Section]:
    """Yield the sections on methods and on checks that only some trials have had; the first says which none has."""
    folders = {trial: contents.folder(trial) for trial in contents.trials}
    groups = {row.name: [contents.records[trial] for trial in row.trials] for row in rows}
    audited, exported = read_audits(folders), export_lines(contents.records.values())
    certified = read_parities(folders)
    known = {
        "post-training methods (`ptq` in a config)": has_steps(groups),
        "bits allocated within a budget (`qat allocate`)": has_allocation(groups),
        "errors by layer (`analysis_batches` in a config)": has_layers,
        "an audit of its calibration (`qat audit`)": bool(audited),
        "exported files (`qat export`)": bool(exported),
        "a certificate of parity (`qat parity`)": bool(certified),
    }
    if rows:
        yield "methods", "Methods and checks", methods(groups, [name for name, there in known.items() if not there])
    if audited:
        yield "audits", "Calibration", audits(audited)
    if exported:
        yield "exports", "Exported files", export_section(exported)
    if certified:
        yield "parity", "Parity of exported files", parity(certified)


def _top(contents: Contents, sections: Sequence[Section], is_live: bool) -> list[Html]:
    now = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
    said = f"{states(contents)} · {now} · qat {__version__}"
    links = [tag("a", title, href=f"#{anchor}") for anchor, title, _ in sections]
    follow = tag("label", tag("input", type="checkbox", id="live"), tag("span", "live", id="live-note"), class_="live")
    theme = tag("button", "Dark", type="button", id="theme")
    link = tag("button", "Link", type="button", id="copy-link", title="Copy a link to this page as it is shown now")
    right = tag("span", *([follow] if is_live else []), link, theme, class_="right")
    header = tag("header", tag("h1", contents.name), tag("p", said, class_="faint"), class_="head")
    running = [tag("ul", id="running", class_="running", aria_label="Running now")] if is_live else []
    return [header, *running, tag("nav", tag("div", tag("span", *links, class_="links"), right), aria_label="Sections")]


def _main(sections: Sequence[Section]) -> Html:
    return tag("main", *(_section(*section) for section in sections))


def _section(anchor: str, title: str, content: Html) -> Html:
    name = f"{anchor}-title"
    return tag("section", tag("h2", title, id=name), content, id=anchor, aria_labelledby=name)


def _foot() -> Html:
    return tag("footer", "Made by qat report from the records of the trials. It loads nothing from anywhere.")
