"""The page's sections on what went wrong and where the trials ran."""

from collections.abc import Iterable, Sequence

from qat.report.contents import Contents, GivenUp
from qat.report.page.markup import Html, join, tag
from qat.report.page.provenance import Difference, Provenance

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
    """What may make numbers of this study no fair comparison."""
    return [tag("p", warning, class_="warning", role="note") for warning in found.warnings]


def origin(found: Provenance) -> Html:
    """Warnings, what all trials share, and what differs."""
    parts = warnings(found)
    if not found.common and not found.different:
        return tag("p", "No finished trial says where it ran.")
    if found.different:
        parts += [
            tag("h3", "What differs between trials"),
            _table(("fact", "value", "trials", "such as"), _differences(found.different), "Differences"),
        ]
    same = [(tag("th", name, scope="row"), tag("td", value, class_="wrap")) for name, value in found.common.items()]
    return join(*parts, tag("h3", "The same for all trials"), _table(("fact", "value"), same, "Manifest"))


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


def _differences(different: Sequence[Difference]) -> Iterable[tuple[Html, ...]]:
    for one in different:
        for i, (value, trials) in enumerate(one.trials.items()):
            if i >= MOST_NAMED:
                break
            more = f" and {len(trials) - SAMPLE:,} more" if len(trials) > SAMPLE else ""
            yield (
                tag("th", one.name if i == 0 else "", scope="row"),
                tag("td", "not said" if value is None else value, class_="wrap"),
                tag("td", f"{len(trials):,}", class_="number"),
                tag("td", ", ".join(trials[:SAMPLE]) + more, class_="wrap"),
            )


def _table(heads: Sequence[str], lines: Iterable[tuple[Html, ...]], label: str) -> Html:
    head = tag("tr", *(tag("th", name, scope="col", class_="number" if name == "trials" else "") for name in heads))
    table = tag("table", tag("thead", head), tag("tbody", *(tag("tr", *cells) for cells in lines)))
    return tag("div", table, class_="box", tabindex="0", role="region", aria_label=label)
