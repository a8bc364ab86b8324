"""The page's first section: the question, the verdicts as a forest plot and in words, and the table of arms."""

from collections import Counter
from collections.abc import Callable, Sequence

from qat.core.tables import shares_text
from qat.lab.report.deciding import HEADS, line, needed, remark
from qat.lab.report.forest import bars
from qat.lab.report.html.markup import Html, canvas, join, select, table, tag, tick
from qat.lab.report.summary import Row
from qat.lab.report.table import (
    BITS,
    DECLARED,
    EXPLORATORY,
    IDENTICAL,
    LATE,
    LEGEND,
    MARKS,
    any_identical,
    bracketed,
    caption,
    contrasts,
    exploratory,
    faster,
    margins,
    mark,
    shown,
    worse,
)
from qat.lab.runs.record import Arm
from qat.lab.runs.study_folder import About
from qat.lab.stats import Estimate, Kind, Verdict

QUESTION = "Does training with quantization (QAT) beat calibrating after training (PTQ), and what does each cost?"
QUESTIONS: tuple[tuple[Arm, Arm, str], ...] = (
    ("qat", "ptq", "QAT against PTQ of the same recipe"),
    ("qat", "control", "QAT against the control: the float model trained on as long"),
    ("ptq", "float", "PTQ against the float model"),
)
KINDS: tuple[Kind, ...] = ("better", "equivalent", "identical", "worse", "undecided")
FOREST = (
    "Right of zero the first is better. The band is the margin within which a difference does not matter. Bars are "
    "95 % intervals for other seeds, thin ones for other seeds and test examples at once; small marks are single seeds."
)
PINNED = (
    "Differences from the pinned arm, paired by seed, with uncorrected 95 % intervals (Student t), for looking around: "
    "the verdicts above are corrected. ▲ is better and ▼ worse where the interval leaves zero out."
)
FEW = 8  # verdicts that stand open; of more those that show something do, and all are folded


def answer(rows: Sequence[Row], about: About | None = None, compares: Sequence[str] = ()) -> Html:
    """The study's own words, its comparisons as a forest plot and in words, then the numbers behind them. Of several
    studies, named by `compares`, the contrasts are those of each arm with the time before."""
    words = _words(about or About())
    if not rows:
        return join(words, tag("p", "No trial is finished yet. This page has more to say once one is.", class_="note"))
    asked = [(title, _verdicts(rows, arm, baseline)) for arm, baseline, title in QUESTIONS]
    parts = [_verdict_list(title, found) for title, found in asked if found]
    if declared := contrasts(rows):
        late = 0 if compares else sum(not one.declared for one in declared)
        note = [tag("p", f"{late} of them: {LATE}", class_="faint")] if late else []
        title = f"Each arm against the time before: {', '.join(compares)}" if compares else DECLARED
        head = [tag("h3", title), tag("p", _counted(declared), class_="counts"), _lines(declared), *note]
        parts = [*head, *([tag("h3", EXPLORATORY)] if parts else []), *parts]
    return join(words, *_forest(rows), *parts, *_open(rows), tag("h3", "The arms in numbers"), arms_table(rows))


def _words(about: About) -> Html:
    """The question, or the usual one, with the hypothesis and the notes of the study's file where it has them."""
    parts = [tag("p", about.question or QUESTION, class_="question")]
    if about.hypothesis:
        count = f"{about.finished:,} trial{'' if about.finished == 1 else 's'}"
        when = f"after {count} had finished" if about.finished else "before any trial had finished"
        said = tag("span", f" Written down {when}.", class_="faint")
        parts.append(tag("p", tag("b", "Hypothesis: "), about.hypothesis, said))
    notes = [one for one in about.notes.split("\n\n") if one.strip()]
    return join(*parts, *(tag("p", one, class_="notes") for one in notes))


def _forest(rows: Sequence[Row]) -> list[Html]:
    """The place of the forest plots, one for each unit of differences."""
    units = dict.fromkeys(bar.unit for bar in bars(rows))
    if not units:
        return []
    controls = (
        select("Comparisons", "asked"),
        select("Sorted by", "sorted-by"),
        tick("even", "even scale"),
        tick("every", "all of them"),
    )
    charts = [
        tag(
            "figure",
            tag("figcaption", tag("b", f"Difference{f' in {unit}' if unit else ''}"), FOREST),
            tag("p", id=f"forest-note-{i}", class_="faint note", role="status"),
            tag("div", canvas(f"forest-{i}"), class_="tall", tabindex="0", role="region", aria_label="Comparisons"),
        )
        for i, unit in enumerate(units)
    ]
    return [tag("div", *controls, class_="controls"), *charts]


def _open(rows: Sequence[Row]) -> list[Html]:
    """The numbers of seeds that would decide what is undecided."""
    found = needed(rows)
    if not found:
        return []
    counts = table(HEADS, map(line, found), "What would decide the undecided comparisons")
    return [
        tag(
            "details",
            tag("summary", f"What would decide the undecided comparisons ({len(found)})"),
            counts,
            tag("p", remark(found), class_="faint"),
            id="needed",
            open=len(found) <= FEW,
        )
    ]


def _verdicts(rows: Sequence[Row], arm: Arm, baseline: Arm) -> list[Verdict]:
    others = [row.verdicts.get(baseline) for row in rows if row.arm == arm]
    free = {id(one) for one in exploratory(rows)}
    return [one for one in others if one is not None and id(one) in free]


def _verdict_list(title: str, found: Sequence[Verdict]) -> Html:
    lines = _lines(found)
    if len(found) > FEW:
        name = "verdicts-" + "-".join(word for word in title.lower().split() if word.isalpha())
        folded = tag("details", tag("summary", f"All {len(found)} in words"), lines, id=name)
        telling = [one for one in found if one.kind != "undecided" or one.of_these_models]
        lines = join(_lines(telling), folded) if 0 < len(telling) <= FEW else folded
    return join(tag("h3", title), tag("p", _counted(found), class_="counts"), lines)


def _lines(found: Sequence[Verdict]) -> Html:
    return tag("ul", *(tag("li", one.text, class_=one.kind) for one in found), class_="verdicts")


def _counted(found: Sequence[Verdict]) -> Html:
    """Count the verdicts of each kind, and the undecided ones that are decided for the models as trained alone."""
    counts = Counter(one.kind for one in found)
    alone = Counter(one.of_these_models for one in found if one.kind == "undecided")
    badges = [_badge(kind, counts[kind], kind) for kind in KINDS if counts[kind]]
    badges += [_badge(kind, alone[kind], f"of them {kind} for these models alone") for kind in KINDS if alone[kind]]
    return join(*badges)


def _badge(kind: Kind, count: int, text: str) -> Html:
    return tag("span", tag("b", str(count)), f" {text}", class_=f"kind {kind}")


type Cell = Callable[[Row], str]


def arms_table(rows: Sequence[Row]) -> Html:
    """One row per group of trials that differ in their seed only; columns that would be empty are left out."""
    columns = {name: [cell(row) for row in rows] for name, cell in _cells(rows).items()}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    head = tag(
        "tr", tag("th", "arm", scope="col"), *(tag("th", name, scope="col", class_="number") for name in columns)
    )
    lines = [
        tag("tr", _name(row), *(tag("td", cells[i], class_="number") for cells in columns.values()))
        for i, row in enumerate(rows)
    ]
    note = tag("p", PINNED, class_="faint", id="pin-note", hidden=True)
    made = tag("table", tag("thead", head), tag("tbody", *lines), id="arms")
    return join(
        tag("div", select("Pinned baseline", "pin"), class_="controls"),
        note,
        tag("div", made, class_="box", tabindex="0", role="region", aria_label="Arms"),
        tag("p", caption(rows).replace("1x", "1×"), class_="faint"),
        *_legend(rows),
    )


def _cells(rows: Sequence[Row]) -> dict[str, Cell]:
    """Functions from a row to its cell, by heading."""
    metrics = dict.fromkeys(row.metric.heading for row in rows)
    scores: dict[str, Cell] = {name: lambda row, name=name: _score(row, name) for name in metrics}
    return {
        "seeds": lambda row: str(row.score.n),
        **scores,
        f"{worse(rows)} / float": lambda row: _compared(row, row.drop_from_float, "float"),
        f"{worse(rows)} / control": lambda row: _compared(row, row.drop_from_control, "control"),
        "gain / PTQ": lambda row: _compared(row, row.gain_over_ptq, "ptq"),
        BITS: lambda row: shares_text(row.operations),
        "size, kB": lambda row: f"{row.size_bytes / 1000:,.1f}",
        "smaller": lambda row: f"{row.size_ratio:.2f}×" if row.size_ratio else "",
        "latency, ms": lambda row: f"{row.speed.latency_ms:.3g}" if row.speed else "",
        "faster": lambda row: faster(row).replace("x", "×"),
    }


def _score(row: Row, heading: str) -> str:
    return shown(row, row.score) if row.metric.heading == heading else ""


def _compared(row: Row, value: Estimate | None, baseline: Arm) -> str:
    """A difference, with the sign of its verdict, and of how many pairs where those are not all of the row's."""
    if value is None or not value.n:
        return ""
    fewer = f" (n = {value.n})" if value.n != row.score.n else ""
    text = shown(row, value, difference=True) + fewer
    verdict = row.verdicts.get(baseline)
    if verdict is None:
        return text
    alone = verdict.of_these_models
    title = f"{alone}, of these models alone" if alone else verdict.kind
    return join(tag("abbr", mark(verdict), title=title, class_=f"sign {alone or verdict.kind}"), f" {text}")


def _name(row: Row) -> Html:
    return tag("th", tag("span", class_=f"mark {row.arm}", aria_hidden="true"), row.name, scope="row")


def _legend(rows: Sequence[Row]) -> list[Html]:
    if not any(row.verdicts for row in rows):
        return []
    signs = [
        tag("span", tag("span", sign, class_=f"sign {kind}"), f" {IDENTICAL if kind == 'identical' else kind}")
        for kind, sign in MARKS.items()
        if kind != "identical" or any_identical(rows)
    ]
    within = f" Equivalent is within {found}." if (found := margins(rows)) else ""
    return [tag("p", LEGEND, *signs, f"{bracketed(rows)}.{within}", class_="faint signs")]
