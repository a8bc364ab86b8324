"""HTML that is escaped unless it was made here."""

import base64
import functools
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files

VOID = {"input", "link", "meta"}


class Html(str):
    """Markup that is safe to put into a page as it is."""

    __slots__ = ()


def text(value: str) -> Html:
    """`value` as it reads, whatever markup it contains."""
    return value if isinstance(value, Html) else Html(html.escape(value))


def tag(name: str, /, *children: str, **attributes: str | bool) -> Html:
    """An element; children that are not `Html` and all attributes are escaped.

    `class_` and the like name attributes that are words of Python; an underscore within a name is a dash. True is an
    attribute without a value, False none.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    return Html(f"<{name}{written}>" + ("" if name in VOID else f"{join(*children)}</{name}>"))


def join(*parts: str) -> Html:
    """Texts and elements one after another."""
    return Html("".join(map(text, parts)))


def table(heads: Sequence[str], lines: Iterable[Sequence[str]], label: str, kinds: Sequence[str] = ()) -> Html:
    """A table in a box that scrolls, named `label`; the first cell of a line is its heading.

    `kinds` are the columns' classes, `number` or `wrap`: by default all but the first hold numbers.
    """
    kinds = kinds or ("", *["number"] * (len(heads) - 1))
    head = tag("tr", *(tag("th", name, scope="col", class_=kind) for name, kind in zip(heads, kinds, strict=True)))
    rows = (
        tag(
            "tr",
            tag("th", first, scope="row", class_=kinds[0]),
            *(tag("td", cell, class_=kind) for cell, kind in zip(cells, kinds[1:], strict=True)),
        )
        for first, *cells in lines
    )
    made = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("div", made, class_="box", tabindex="0", role="region", aria_label=label)


def select(title: str, name: str, **more: str) -> Html:
    """A choice whose values a script fills in."""
    return tag("label", title, tag("select", id=name, **more))


def tick(name: str, title: str) -> Html:
    """A box to tick."""
    return tag("label", tag("input", type="checkbox", id=name), title, class_="inline")


def canvas(name: str) -> Html:
    """The place of a chart."""
    return tag("div", id=name, class_="chart")


PARTS = tuple(
    f"{name}.js"
    for name in (
        *("page", "view", "copy", "scales", "charts", "forest", "pin", "chosen"),
        *("examples", "trials", "differences", "map"),
    )
)


def style() -> Html:
    """The style sheet."""
    return Html(_asset("page.css"))


@functools.cache
def plotly_script() -> Html:
    """The whole of plotly.js, which draws the charts and loads nothing for the kinds of chart that are used here."""
    from plotly.offline import get_plotlyjs

    return _harmless(get_plotlyjs())


def own_script(live: bool) -> Html:
    """The page's own script; one that is `live` looks for news on its server."""
    names = (*PARTS, "live.js", "start.js") if live else (*PARTS, "start.js")
    return _harmless("\n".join(map(_asset, names)))


def policy(scripts: Iterable[str], live: bool) -> str:
    """A content security policy: these scripts, no others, and no request but to the page's own server if it is live.

    Styles may stand in the page, as plotly.js writes some.
    """
    sums = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(f"'sha256-{one}'" for one in sums),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _harmless(script: str) -> Html:
    """A script in which nothing ends the element that holds it."""
    if "</script" in script.lower() or "<!--" in script:
        raise RuntimeError("The installed plotly.js cannot stand in a page: it contains the end of a script element.")
    return Html(script)


def _asset(name: str) -> str:
    return (files("qat.lab.report.html") / "assets" / name).read_text(encoding="utf-8")
