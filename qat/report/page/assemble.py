"""The report as one HTML page that needs nothing else: no network, no server, no other file."""

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from qat.report.contents import Contents, states
from qat.report.page.answer import answer
from qat.report.page.details import Details, details
from qat.report.page.inside import all_trials, fronts, single_trials
from qat.report.page.layers import HEIGHTS
from qat.report.page.markup import Html, tag
from qat.report.page.payload import embedded, packed
from qat.report.page.provenance import provenance
from qat.report.page.scripts import own_script, plotly_script, policy, style
from qat.report.page.sections import failures, origin
from qat.report.page.trials import chosen, group_of, table
from qat.report.points import COSTS, CROWD, Point, best, comparable, points
from qat.report.summary import Row

VIEWPORT = "width=device-width, initial-scale=1"


def page(contents: Contents, rows: Sequence[Row], live: str | None = None) -> str:
    """The page of a study and the rows of its summary.

    With `live`, a text that changes when the study does, the page belongs to a server and asks it for that text at
    `state`; otherwise it may load nothing at all.
    """
    found, inner = points(rows), details(contents, group_of(contents, rows))
    sections = list(_sections(contents, rows, found, inner))
    scripts = [plotly_script(), own_script(live is not None)]
    body = tag(
        "body",
        *_top(contents, sections, live is not None),
        _main(sections),
        _foot(),
        *_data(contents, rows, found, inner),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(scripts, live is not None)),
        tag("meta", name="viewport", content=VIEWPORT),
        tag("title", f"{contents.name}: quantization study"),
        tag("link", rel="icon", href="data:,"),
        tag("style", style()),
    )
    language: dict[str, str | bool] = {"lang": "en", **({} if live is None else {"data_stamp": live})}
    return "<!doctype html>\n" + tag("html", head, body, *(tag("script", one) for one in scripts), **language)


def _sections(
    contents: Contents, rows: Sequence[Row], found: Sequence[Point], inner: Details
) -> Iterator[tuple[str, str, Html]]:
    """Anchor, title and content of each section that has something to say."""
    yield "answer", "Answer", answer(rows)
    if found:
        yield "fronts", "Quality against cost", fronts(len(found), any(point.latency is not None for point in found))
    if inner.curves or inner.layers:
        yield "inside", "Curves and layers", single_trials(inner.left_out)
    yield "trials", "All trials", all_trials()
    yield "failures", "Failures", failures(contents)
    yield "origin", "Where it ran", origin(provenance(contents.manifests))


def _top(contents: Contents, sections: Sequence[tuple[str, str, Html]], live: bool) -> list[Html]:
    now = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
    said = f"{states(contents)} · {now} · qat {importlib.metadata.version('qat')}"
    links = [tag("a", title, href=f"#{anchor}") for anchor, title, _ in sections]
    follow = tag("label", tag("input", type="checkbox", id="live"), tag("span", "live", id="live-note"), class_="live")
    right = tag("span", *([follow] if live else []), tag("button", "Dark", type="button", id="theme"), class_="right")
    header = tag("header", tag("h1", contents.name), tag("p", said, class_="faint"), class_="head")
    running = [tag("ul", id="running", class_="running", aria_label="Running now")] if live else []
    return [header, *running, tag("nav", tag("div", tag("span", *links, class_="links"), right), aria_label="Sections")]


def _main(sections: Sequence[tuple[str, str, Html]]) -> Html:
    made = [
        tag("section", tag("h2", title, id=f"{anchor}-title"), content, id=anchor, aria_labelledby=f"{anchor}-title")
        for anchor, title, content in sections
    ]
    return tag("main", *made)


def _foot() -> Html:
    return tag("footer", "Made by qat report from the records beside this page. It loads nothing from anywhere.")


def _data(contents: Contents, rows: Sequence[Row], found: Sequence[Point], inner: Details) -> list[Html]:
    groups = group_of(contents, rows)
    names = list(dict.fromkeys(groups.values()))
    place = {name: k for k, name in enumerate(names)}
    arms = {groups[trial]: record.arm for trial, record in contents.records.items()}
    plain: Mapping[str, Any] = {
        "study": contents.name,
        "metric": next((row.scale.heading for row in comparable(rows)), ""),
        "points": [asdict(point) for point in found],
        "crowd": CROWD,
        "fronts": {cost: best(found, cost) for cost in COSTS},
        "names": list(contents.trials),
        "groups": [{"label": name, "arm": arms.get(name)} for name in names],
        "group": [place[name] for name in groups.values()],
        "seeds": [_seed(contents, trial) for trial in contents.trials],
        "drawable": [i in inner.curves or i in inner.layers for i in range(len(contents.trials))],
        "chosen": chosen(contents),
        "trials": table(contents),
        "heights": HEIGHTS,
    }
    curves = {"series": inner.series, "curves": inner.curves, "layers": inner.layers}
    return [
        tag("script", Html(embedded(plain)), type="application/json", id="data"),
        tag("script", Html(packed(curves)), type="text/plain", id="details"),
        tag("script", Html(packed(inner.bins)), type="text/plain", id="bins"),
    ]


def _seed(contents: Contents, trial: str) -> str | None:
    label, record = contents.trials[trial].get("seed"), contents.records.get(trial)
    if label is None:
        return f"seed {record.seed}" if record else None
    return label if "seed" in label.lower() else f"seed {label}"
