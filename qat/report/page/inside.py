"""The page's parts that its script fills: charts, and the table of all trials with its filters."""

from collections.abc import Mapping, Sequence

from qat.report.page.markup import Html, join, tag
from qat.report.points import CROWD, Point

RANGES = "What goes into a layer, on a logarithmic scale. Dashed lines are the clip range; the grey outside is cut off."


def fronts(points: Sequence[Point]) -> Html:
    """Charts of the arms, by recipe and against what is known of their cost."""
    spread = "with their 95 % intervals" if len(points) <= CROWD else "so many that their intervals are in the table"
    if len(points) <= CROWD and any(point.seeds for point in points):
        spread += ", or the values of seeds that are fewer than 4"
    charts = [_chart("accuracy", "By recipe", f"Means over seeds, {spread}.")]
    if any(point.size is not None for point in points):
        note = "The dotted line is the front: no arm reaches more at that size or less."
        charts.append(_chart("front-size", "Against size", note))
    if any(point.latency is not None for point in points):
        charts.append(
            _chart(
                "front-latency",
                "Against latency",
                "Of one call of the arm's program: the median over the trials that ran it.",
            )
        )
    return tag("div", *charts, class_="charts")


def single_trials(left_out: Mapping[str, int]) -> Html:
    """Charts of the trials that the reader chooses."""
    told = [f"{what} of {count:,} trials" for what, count in left_out.items() if count]
    note = f"Left out to keep the page small: {', '.join(told)}; the files are in the trials' folders." if told else ""
    return join(
        tag(
            "div",
            _label("Add a trial or all seeds of an arm", _search("add", list_="names", autocomplete="off")),
            class_="controls",
        ),
        tag("datalist", id="names"),
        tag("ul", id="chips", class_="chips", aria_label="Chosen trials"),
        tag("p", id="chosen-note", class_="faint", role="status"),
        *([tag("p", note, class_="faint")] if note else []),
        tag("h3", "Training curves"),
        tag(
            "div", _select("Stage", "stage"), _select("Metric", "metric"), _tick("log", "log scale"), class_="controls"
        ),
        tag("figure", _canvas("curves")),
        tag("h3", "Error by layer"),
        tag("p", "Signal to quantization-noise ratio (SQNR). Click a point to see its layer's ranges.", class_="faint"),
        tag("div", _select("Measured at", "operand"), class_="controls"),
        tag(
            "figure",
            tag("div", _canvas("layers"), class_="tall", tabindex="0", role="region", aria_label="Error by layer"),
        ),
        tag("h3", "Ranges"),
        tag("p", RANGES, class_="faint"),
        tag("div", _select("Layer", "site"), class_="controls"),
        tag("div", id="histograms", class_="small"),
        tag("p", id="bins-note", class_="faint", role="status"),
    )


def all_trials() -> Html:
    """The table of trials, empty as yet."""
    search = _label("Filter: words that a row must contain", _search("filter"))
    return join(
        tag("div", search, tag("div", id="trials-choices", class_="controls"), class_="controls"),
        tag("p", id="count", class_="faint", role="status"),
        tag("div", id="trials-box", class_="box", tabindex="0", role="region", aria_label="All trials"),
        tag("noscript", tag("p", "This table and the charts need JavaScript; table.csv and table.md do not.")),
    )


def _chart(name: str, title: str, note: str) -> Html:
    return tag("figure", tag("figcaption", tag("b", title), note), _canvas(name))


def _canvas(name: str) -> Html:
    return tag("div", id=name, class_="chart")


def _label(title: str, control: Html) -> Html:
    return tag("label", title, control, class_="wide")


def _select(title: str, name: str) -> Html:
    return tag("label", title, tag("select", id=name))


def _tick(name: str, title: str) -> Html:
    return tag("label", tag("input", type="checkbox", id=name), title, class_="inline")


def _search(name: str, **more: str) -> Html:
    return tag("input", type="search", id=name, spellcheck="false", **more)
