"""The summary as a table: for the terminal, as Markdown and as CSV."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat.core.tables import shares_text
from qat.lab.report.summary import Row
from qat.lab.runs.record import Arm
from qat.lab.stats import Estimate, Evidence, Kind, Verdict

CAPTION = (
    "Means over n seeds ± half of the 95 % interval (Student t), or with the values of fewer than 4 seeds. "
    "{worsenings} and gains are in the score's unit and paired by seed: a positive {worse} is worse, a positive gain "
    "better, here and in words.{lower} Quantized arms are measured on the served integers; size is the model's file."
)
LEGEND = "Verdicts, corrected for the number of comparisons (Holm): "
SPEED = (
    "Times are those of a program over all trials that ran it, of one arm or several; faster comes with the quartiles "
    "of their measurements, and is ≈ 1x where it is not told apart from float."
)
MARKS: dict[Kind, str] = {"better": "▲", "worse": "▼", "equivalent": "=", "identical": "≡", "undecided": "?"}
IDENTICAL = "the same in every seed"
DECLARED, EXPLORATORY = "Declared contrasts", "All other comparisons, which are exploratory"
LATE = "It was declared after results of it were there, and is corrected among all others."
ONE_FLOAT = (
    " Seeds of an arm that start from one float model share it: their intervals and verdicts are conditional on that "
    "model."
)
BITS = "multiplications, bits w x a"
TEXT = ("trial", "arm", "recipe", "metric", BITS)
ABSOLUTE = ("size, kB", "latency, ms")
BASELINES: tuple[Arm, ...] = ("float", "control", "ptq")


def rich_table(rows: Sequence[Row], title: str) -> Table:
    """The table for the terminal, where the values of few seeds have a line of their own. Left to the files are the
    bits of multiplications, sizes and latencies where their ratios take the room, and arms and recipes where the
    trials' labels do.
    """
    columns = _columns(rows, apart=True)
    left_out = ABSOLUTE if columns.keys() >= {"smaller", "faster"} else ()
    left_out += (BITS, *(("arm", "recipe") if "trial" in columns else ()))
    columns = {heading: cells for heading, cells in columns.items() if heading not in left_out}
    table = Table(title=Text(title), caption=Text(_caption(rows)), caption_justify="left", box=SIMPLE_HEAD, padding=0)
    for heading in columns:
        text = heading in TEXT
        table.add_column(heading, justify="left" if text else "right", no_wrap=text, overflow="fold")
    for i in range(len(rows)):
        table.add_row(*(Text(cells[i]) for cells in columns.values()))
    return table


def markdown(rows: Sequence[Row], title: str) -> str:
    """A Markdown table under its title, and the verdicts in words."""
    columns = _columns(rows)
    rule = ["---" if heading in TEXT else "---:" for heading in columns]
    lines = [[*map(_cell, columns)], rule, *([*map(_cell, line)] for line in zip(*columns.values(), strict=True))]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    parts = [f"# {_escaped(title)}", "", body, "", _escaped(_caption(rows))]
    declared, others = [contrast_text(one) for one in contrasts(rows)], [one.text for one in exploratory(rows)]
    for heading, texts in ((DECLARED, declared), (EXPLORATORY if declared else "Verdicts", others)):
        parts += ["", f"## {heading}", "", *(f"- {_escaped(text)}" for text in texts)] if texts else []
    return "\n".join([*parts, ""])


def contrasts(rows: Sequence[Row]) -> list[Verdict]:
    """The verdicts on the declared contrasts, in the order of the rows."""
    return [verdict for row in rows for verdict in row.contrasts]


def contrast_text(verdict: Verdict) -> str:
    """The verdict on a contrast in words, and whether it was declared too late."""
    return verdict.text if verdict.declared else f"{verdict.text} {LATE}"


def exploratory(rows: Sequence[Row]) -> list[Verdict]:
    """The verdicts on all other comparisons, in the order of the rows."""
    return [one for row in rows for one in row.verdicts.values() if not any(one is other for other in row.contrasts)]


def margins(rows: Sequence[Row]) -> str:
    """The differences that do not matter to the verdicts, `0.3 points or 2 loss`; empty where none has one."""
    found = (verdict for row in rows for verdict in row.verdicts.values())
    return " or ".join(dict.fromkeys(f"{one.margin:g} {one.unit}".rstrip() for one in found if one.margin is not None))


def shown(row: Row, value: Estimate, difference: bool = False, apart: bool = False) -> str:
    """A mean as the row's metric writes it, `none` of no seeds; a difference with its sign.

    It comes with ± half of its interval, with both ends of an interval that is cut off at the metric's range, or with
    the values of the seeds where they are too few for one: in brackets, or `apart`, on a second line and rounded more.
    """

    def text(number: float) -> str:
        return row.metric.text(number, difference)

    interval, mean = row.metric.interval(value.low, value.high, difference), text(value.mean)
    if not value.n or interval is None:
        return mean if value.n else "none"
    if value.points:
        if apart:
            short = replace(row.metric, decimals=row.metric.decimals and 1)
            return f"{mean}\n{' '.join(short.text(point, difference) for point in value.points)}"
        return f"{mean} ({', '.join(map(text, value.points))})"
    if interval != (value.low, value.high):
        return f"{mean} ({text(interval[0])} to {text(interval[1])})"
    return f"{mean} ± {row.metric.text(value.half_width or 0.0)}"


def faster(row: Row, short: bool = False) -> str:
    """The speed of a program as a multiple of float's, with quartiles unless `short`; 1 for float by definition."""
    speed = row.speed
    if speed is None or speed.faster is None:
        return ""
    if row.recipe is None:
        return _times(speed.faster)
    if not speed.told_apart:
        return "≈ 1x"
    return _times(speed.faster) if short else f"{_times(speed.faster)} ({speed.low:.2f} to {speed.high:.2f})"


def mark(verdict: Verdict) -> str:
    """The sign of what is shown for new seeds, starred where it is so on the same test items only; or in brackets of
    the models as trained alone."""
    alone = verdict.of_these_models
    return f"({MARKS[alone]})" if alone else MARKS[verdict.kind] + "*" * verdict.same_items_only


def bracketed(rows: Sequence[Row]) -> str:
    """Explain the stars and brackets at signs, where there are any."""
    found = [one for row in rows for one in row.verdicts.values()]
    star = "; * in other seeds on the same test items, not shown for other items"
    alone = "; in brackets what new test items would show of these models alone, not of other seeds"
    starred, in_brackets = any(one.same_items_only for one in found), any(one.of_these_models for one in found)
    return star * starred + alone * in_brackets


def csv_text(rows: Sequence[Row]) -> str:
    """The numbers behind the table, unrounded, and the verdicts; an empty cell where there is none.

    A positive drop is worse, a positive gain better. All have the ends of their interval, however few the seeds, and
    the seeds' own values. p-values are Holm's and of the doubt that decided: over seeds, or over items where there is
    one seed.
    """
    out = io.StringIO()
    lines = [_numbers(row) for row in rows]
    writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def caption(rows: Sequence[Row]) -> str:
    """Explain the numbers of the table."""
    lower = dict.fromkeys(row.metric.name for row in rows if row.metric.better == "lower")
    remark = f" Lower is better of {', '.join(lower)}." if lower else ""
    word = worse(rows)
    if any(row.float_models == 1 < row.score.n for row in rows):
        remark += ONE_FLOAT
    said = CAPTION.format(worsenings=f"{word.replace(' or ', 's or ')}s".capitalize(), worse=word, lower=remark)
    return f"{said} {SPEED}" if any(row.recipe and row.speed for row in rows) else said


def worse(rows: Sequence[Row]) -> str:
    """The word for a change to the worse of the rows' metrics."""
    return " or ".join(dict.fromkeys(row.metric.worsening for row in rows)) or "drop"


def _caption(rows: Sequence[Row]) -> str:
    if not any(row.verdicts for row in rows):
        return caption(rows)
    within = margins(rows)
    equivalent = f", = equivalent within {within}" if within else ""
    identical = f", ≡ {IDENTICAL}" if any_identical(rows) else ""
    return f"{caption(rows)} {LEGEND}▲ better, ▼ worse{equivalent}{identical}, ? undecided{bracketed(rows)}."


def any_identical(rows: Sequence[Row]) -> bool:
    """Whether arms are the same in every seed somewhere."""
    return any(verdict.kind == "identical" for row in rows for verdict in row.verdicts.values())


def _columns(rows: Sequence[Row], apart: bool = False) -> dict[str, list[str]]:
    """Cells by heading, without columns that would be empty; the trials' labels where arm and recipe do not tell the
    rows apart, or recipes are longer. `apart` is as for `shown`."""
    arms = [(row.arm, row.recipe) for row in rows]
    labels, recipes = [row.label for row in rows], [row.recipe or "" for row in rows]
    labelled = len(set(arms)) < len(arms) or (
        all(labels) and max(map(len, labels), default=0) < max(map(len, recipes), default=0)
    )
    headings = {row.metric.heading for row in rows}
    score = headings.pop() if len(headings) == 1 else "score"
    columns = {
        "trial": labels if labelled else [],
        "arm": [row.arm for row in rows],
        "recipe": recipes,
        "metric": [row.metric.heading for row in rows] if score == "score" else [],
        "n": [_seeds(row) for row in rows],
        score: [shown(row, row.score, apart=apart) for row in rows],
        f"{worse(rows)} / float": [_compared(row, row.drop_from_float, "float", apart) for row in rows],
        f"{worse(rows)} / control": [_compared(row, row.drop_from_control, "control", apart) for row in rows],
        "gain / PTQ": [_compared(row, row.gain_over_ptq, "ptq", apart) for row in rows],
        BITS: [shares_text(row.operations) for row in rows],
        "size, kB": [f"{row.size_bytes / 1000:,.1f}" for row in rows],
        "smaller": [_times(row.size_ratio) for row in rows],
        "latency, ms": [f"{row.speed.latency_ms:.3g}" if row.speed else "" for row in rows],
        "faster": [faster(row, short=apart) for row in rows],
    }
    return {heading: cells for heading, cells in columns.items() if any(cells)}


def _seeds(row: Row) -> str:
    """The number of seeds behind a score, and the number of all seeds where some have no score."""
    return str(row.score.n) if row.score.n == len(row.trials) else f"{row.score.n} of {len(row.trials)}"


def _compared(row: Row, value: Estimate | None, baseline: Arm, apart: bool) -> str:
    """A difference, of how many pairs where those are not all of the row's, and the mark of its verdict."""
    if value is None:
        return ""
    fewer = f" (n={value.n})" if value.n != row.score.n else ""
    sign = f"{mark(row.verdicts[baseline])} " if baseline in row.verdicts else ""
    return sign + shown(row, value, True, apart) + fewer


def _times(ratio: float | None) -> str:
    return f"{ratio:.2f}x" if ratio else ""


def _numbers(row: Row) -> dict[str, Any]:
    """A line of the CSV file."""
    estimates = {
        "score": row.score if row.score.n else None,
        "drop_from_float": row.drop_from_float,
        "drop_from_control": row.drop_from_control,
        "gain_over_ptq": row.gain_over_ptq,
    }
    line: dict[str, Any] = {"trial": row.label, "arm": row.arm, "recipe": row.recipe}
    line |= {"metric": row.metric.name, "better": row.metric.better, "factor": row.metric.factor, "n": row.score.n}
    for name, value in estimates.items():
        low, high = (value and row.metric.interval(value.low, value.high, difference=name != "score")) or (None, None)
        line |= {name: value and value.mean, f"{name}_low": low, f"{name}_high": high}
        line[f"{name}_by_seed"] = value and " ".join(map(repr, value.values))
    line["operations"] = shares_text(row.operations)
    line |= {"size_bytes": row.size_bytes, "size_ratio": row.size_ratio}
    line |= {f"{name}": row.speed and getattr(row.speed, name) for name in ("latency_ms", "faster")}
    line |= {f"faster_{name}": row.speed and getattr(row.speed, name) for name in ("low", "high", "trials")}
    for baseline in BASELINES:
        line |= _verdict(baseline, row.verdicts.get(baseline))
    line["contrasts"] = " ".join(map(contrast_text, row.contrasts))
    return line


def _verdict(baseline: Arm, verdict: Verdict | None) -> dict[str, Any]:
    evidence = verdict and verdict.deciding
    doubts = {"items": verdict and verdict.items, "both": verdict and verdict.both}
    cells = {
        "kind": verdict and verdict.kind,
        "covers": verdict and " ".join(verdict.covers),
        "declared": verdict and verdict.declared,
        "pairs": evidence and evidence.difference.n,
        "p": evidence and evidence.p_difference,
        "p_equivalence": evidence and evidence.p_equivalence,
        "margin": verdict and verdict.margin,
        **{f"{over}_{end}": _end(found, end) for over, found in doubts.items() for end in ("low", "high")},
        "text": verdict and verdict.text,
    }
    return {f"against_{baseline}_{name}": cell for name, cell in cells.items()}


def _end(evidence: Evidence | None, end: str) -> float | None:
    """An end of the interval of what the arm gains."""
    return None if evidence is None else getattr(evidence.difference, end)


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"[\\`*\[]|<(?=\S)", r"\\\g<0>", " ".join(text.split()))
