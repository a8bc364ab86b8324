"""The page's sections on what went wrong and where the trials ran."""

from collections.abc import Iterable, Mapping, Sequence

from qat.lab.report.contents import Contents, GivenUp
from qat.lab.report.html.markup import Html, canvas, join, select, table, tag, tick
from qat.lab.report.html.trials import Difference, Provenance
from qat.lab.report.pareto import CROWD, Point

MOST_NAMED = 200  # trials that a list names; the table of trials has them all
SAMPLE = 3  # trials that stand for those of one value


def failures(contents: Contents) -> Html:
    """Failed jobs with their logs, damaged files, and trials that are open."""
    parts = []
    if contents.given_up:
        found = list(contents.given_up.values())
        parts += [tag("h3", f"Failed: {len(found)}"), *(_failure(one, i) for i, one in enumerate(found[:MOST_NAMED]))]
        parts += _more(len(found))
    if contents.problems:
        lines = [tag("li", why) for why in contents.problems[:MOST_NAMED]]
        parts += [
            tag("h3", f"Damaged: {len(contents.problems)}"),
            tag("ul", *lines, class_="plain"),
            *_more(len(contents.problems)),
        ]
    unfinished = [trial for trial in contents.trials if contents.state(trial) == "open"]
    if unfinished:
        lines = [tag("li", tag("code", trial)) for trial in unfinished[:MOST_NAMED]]
        said = tag("summary", f"Not finished yet: {len(unfinished)}")
        parts.append(tag("details", said, tag("ul", *lines, class_="plain"), *_more(len(unfinished)), id="unfinished"))
    return join(*parts) if parts else tag("p", "Every trial is finished; none failed.")


def warnings(found: Provenance) -> list[Html]:
    """List the reasons why numbers of this study may be no fair comparison."""
    return [tag("p", warning, class_="warning", role="note") for warning in found.warnings]


def origin(found: Provenance) -> Html:
    """Warnings, what all trials share, and what differs."""
    parts = warnings(found)
    if not found.common and not found.different:
        return tag("p", "No finished trial says where it ran.")
    if found.different:
        parts += [
            tag("h3", "What differs between trials"),
            table(
                ("fact", "value", "trials", "such as"),
                _differences(found.different),
                "What differs between trials",
                ("", "wrap", "number", "wrap"),
            ),
        ]
    same = table(("fact", "value"), found.common.items(), "The same for all trials", ("", "wrap"))
    return join(*parts, tag("h3", "The same for all trials"), same)


def _failure(one: GivenUp, i: int) -> Html:
    failure = one.failure
    times = f"{failure.attempts} attempt{'' if failure.attempts == 1 else 's'}"
    parts = [tag("summary", tag("code", one.job), f": {failure.error} ({failure.kind}, {times})")]
    if one.log:
        parts += [tag("p", "End of the log", class_="faint"), tag("pre", one.log, tabindex="0")]
    if failure.traceback:
        parts += [tag("p", "Traceback", class_="faint"), tag("pre", failure.traceback, tabindex="0")]
    return tag("details", *parts, id=f"failure-{i}", open=i == 0)


def _more(count: int) -> list[Html]:
    return [tag("p", f"... and {count - MOST_NAMED:,} more, in the table of trials.")] if count > MOST_NAMED else []


def _differences(different: Sequence[Difference]) -> Iterable[tuple[str, ...]]:
    for one in different:
        for i, (value, trials) in enumerate(one.trials.items()):
            if i >= MOST_NAMED:
                break
            more = f" and {len(trials) - SAMPLE:,} more" if len(trials) > SAMPLE else ""
            yield (
                one.name if i == 0 else "",
                "not said" if value is None else value,
                f"{len(trials):,}",
                ", ".join(trials[:SAMPLE]) + more,
            )


MAP = (
    "The model's modules, with its products in the order of the data flow. A click shows a product's ranges below; a "
    "click on a point of the charts of arms above shows that arm here."
)
RANGES = "What goes into a layer, on a logarithmic scale. Dashed lines are the clip range; the grey outside is cut off."


def fronts(points: Sequence[Point]) -> Html:
    """Charts of the arms, by recipe and against what is known of their cost."""
    spread = "with their 95 % intervals" if len(points) <= CROWD else "so many that their intervals are in the table"
    if len(points) <= CROWD and any(point.seeds for point in points):
        spread += ", or the values of seeds that are fewer than 4"
    charts = [_chart("recipes", "By recipe", f"Means over seeds, {spread}.")]
    if any(point.size is not None for point in points):
        note = "The dotted line is the front: no arm is better at that size or less."
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
    omitted = [f"{what} of {count:,} trials" for what, count in left_out.items() if count]
    listed = f"Left out to keep the page small: {', '.join(omitted)}; the files are in the trials' folders."
    note = listed if omitted else ""
    return join(
        tag(
            "div",
            _label("Add a trial or all seeds of an arm", _search("add", list_="names", autocomplete="off")),
            class_="controls",
        ),
        tag("ul", id="chips", class_="chips", aria_label="Chosen trials"),
        tag("p", id="chosen-note", class_="faint", role="status"),
        *([tag("p", note, class_="faint")] if note else []),
        tag("h3", "Training curves"),
        tag("div", select("Stage", "stage"), select("Metric", "metric"), tick("log", "log scale"), class_="controls"),
        tag("figure", canvas("curves")),
        tag("h3", "Map of the model", id="map-title"),
        tag("p", MAP, class_="faint"),
        tag("div", select("Trial", "map-of"), select("Coloured by", "overlay"), class_="controls"),
        tag("div", id="map", class_="map"),
        tag("h3", "Error by layer"),
        tag("p", "Signal to quantization-noise ratio (SQNR). Click a point to see its layer's ranges.", class_="faint"),
        tag("div", select("Measured at", "operand"), class_="controls"),
        tag(
            "figure",
            tag("div", canvas("layers"), class_="tall", tabindex="0", role="region", aria_label="Error by layer"),
        ),
        tag("h3", "Ranges"),
        tag("p", RANGES, class_="faint"),
        tag("div", select("Layer", "site"), class_="controls"),
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
    return tag("figure", tag("figcaption", tag("b", title), note), canvas(name))


def _label(title: str, control: Html) -> Html:
    return tag("label", title, control, class_="wide")


def _search(name: str, **more: str) -> Html:
    return tag("input", type="search", id=name, spellcheck="false", **more)
