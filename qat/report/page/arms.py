"""The table of the arms: what each reaches, what that is worth against the others, and what it costs."""

from collections.abc import Callable, Sequence

from qat.record import Arm
from qat.report.page.markup import Html, join, tag
from qat.report.summary import Row
from qat.report.table import IDENTICAL, LEGEND, MARKS, any_identical, bracketed, caption, faster, margins, mark, shown
from qat.stats import Estimate

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
    table = tag("table", tag("thead", head), tag("tbody", *lines))
    return join(
        tag("div", table, class_="box", tabindex="0", role="region", aria_label="Arms"),
        tag("p", caption(rows).replace("1x", "1×"), class_="faint"),
        *_legend(rows),
    )


def _cells(rows: Sequence[Row]) -> dict[str, Cell]:
    """Functions from a row to its cell, by heading."""
    metrics = dict.fromkeys(row.scale.heading for row in rows)
    scores: dict[str, Cell] = {name: lambda row, name=name: _score(row, name) for name in metrics}
    return {
        "seeds": lambda row: str(row.score.n),
        **scores,
        "drop / float": lambda row: _compared(row, row.drop_from_float, "float"),
        "drop / control": lambda row: _compared(row, row.drop_from_control, "control"),
        "gain / PTQ": lambda row: _compared(row, row.gain_over_ptq, "ptq"),
        "size, kB": lambda row: f"{row.size_bytes / 1000:,.1f}",
        "smaller": lambda row: f"{row.size_ratio:.2f}×" if row.size_ratio else "",
        "latency, ms": lambda row: f"{row.speed.latency_ms:.3g}" if row.speed else "",
        "faster": lambda row: faster(row).replace("x", "×"),
    }


def _score(row: Row, heading: str) -> str:
    return shown(row, row.score) if row.scale.heading == heading else ""


def _compared(row: Row, value: Estimate | None, baseline: Arm) -> str:
    """A difference, with the sign of its verdict, and of how many pairs where those are not all of the row's."""
    if value is None or not value.n:
        return ""
    fewer = f" (n = {value.n})" if value.n != row.score.n else ""
    told = shown(row, value, difference=True) + fewer
    verdict = row.verdicts.get(baseline)
    if verdict is None:
        return told
    alone = verdict.of_these_models
    title = f"{alone}, of these models alone" if alone else verdict.kind
    return join(tag("abbr", mark(verdict), title=title, class_=f"sign {alone or verdict.kind}"), f" {told}")


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
