"""The page's first section: the question, the verdicts in words, and the table of arms."""

from collections import Counter
from collections.abc import Sequence

from qat.record import Arm
from qat.report.markup import Html, join, tag
from qat.report.summary import Row
from qat.report.table import CAPTION
from qat.stats import Estimate, Verdict

QUESTION = "Does training with quantization (QAT) beat calibrating after training (PTQ), and what does each cost?"
QUESTIONS: tuple[tuple[Arm, Arm, str], ...] = (
    ("qat", "ptq", "QAT against PTQ of the same recipe"),
    ("qat", "control", "QAT against the control: the float model trained on as long"),
    ("ptq", "float", "PTQ against the float model"),
)
KINDS = ("better", "equivalent", "worse", "undecided")
RELATION = {"better": "than", "equivalent": "to", "worse": "than"}
NAMES: dict[Arm, str] = {"float": "float", "control": "control", "ptq": "PTQ", "qat": "QAT"}
SHOWN = "shown to be"
FEW = 8  # verdicts that stand open; more are counted and folded


def answer(rows: Sequence[Row]) -> Html:
    """Verdicts by question, then the numbers behind them."""
    if not rows:
        return tag("p", "No trial is finished yet. This page has more to say once one is.", class_="note")
    asked = [(title, _verdicts(rows, arm, baseline)) for arm, baseline, title in QUESTIONS]
    parts = [_verdict_list(title, found) for title, found in asked if found]
    return join(tag("p", QUESTION, class_="question"), *parts, tag("h3", "The arms in numbers"), arms_table(rows))


def arms_table(rows: Sequence[Row]) -> Html:
    """One row per group of trials that differ in their seed only."""
    metrics = list(dict.fromkeys(row.scale.heading for row in rows))
    shown = [(name, cells) for name, cells in _columns(rows, metrics).items() if any(cells)]
    kinds = ["wrap" if name == SHOWN else "number" for name, _ in shown]
    heads = [tag("th", name, scope="col", class_=kind) for (name, _), kind in zip(shown, kinds, strict=True)]
    lines = []
    for i, row in enumerate(rows):
        cells = [tag("td", cells[i], class_=kind) for (_, cells), kind in zip(shown, kinds, strict=True)]
        lines.append(tag("tr", tag("th", _mark(row.arm), row.name, scope="row"), *cells))
    table = tag("table", tag("thead", tag("tr", tag("th", "arm", scope="col"), *heads)), tag("tbody", *lines))
    return join(tag("div", table, class_="box", tabindex="0", role="region", aria_label="Arms"), tag("p", CAPTION, class_="faint"))


def _verdicts(rows: Sequence[Row], arm: Arm, baseline: Arm) -> list[Verdict]:
    return [row.verdicts[baseline] for row in rows if row.arm == arm and baseline in row.verdicts]


def _verdict_list(title: str, found: Sequence[Verdict]) -> Html:
    lines = tag("ul", *(tag("li", one.text, class_=one.kind) for one in found), class_="verdicts")
    if len(found) > FEW:
        name = "verdicts-" + "-".join(word for word in title.lower().split() if word.isalpha())
        lines = tag("details", tag("summary", f"All {len(found)} in words"), lines, id=name)
    return join(tag("h3", title), tag("p", _counted(found), class_="counts"), lines)


def _counted(found: Sequence[Verdict]) -> Html:
    counts = Counter(one.kind for one in found)
    told = [tag("span", tag("b", str(counts[kind])), f" {kind}", class_=f"kind {kind}") for kind in KINDS if counts[kind]]
    return join(*told)


def _columns(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, list[str]]:
    """Cells by heading; empty where there is no number."""
    scores = {name: [_shown(row, row.score) if row.scale.heading == name else "" for row in rows] for name in metrics}
    return {
        "seeds": [str(row.score.n) for row in rows],
        **scores,
        "drop / float": [_shown(row, row.drop_from_float, sign=True) for row in rows],
        "drop / control": [_shown(row, row.drop_from_control, sign=True) for row in rows],
        "gain / PTQ": [_shown(row, row.gain_over_ptq, sign=True) for row in rows],
        "size, kB": [f"{row.size_bytes / 1000:,.1f}" for row in rows],
        "smaller": [f"{row.size_ratio:.2f}×" if row.size_ratio else "" for row in rows],
        "latency, ms": [f"{row.latency_ms:.3g}" if row.latency_ms else "" for row in rows],
        "faster": [f"{row.latency_ratio:.2f}×" if row.latency_ratio else "" for row in rows],
        SHOWN: [_decided(row) for row in rows],
    }


def _shown(row: Row, value: Estimate | None, sign: bool = False) -> str:
    if value is None or not value.n:
        return ""
    mean = row.scale.text(value.mean, sign)
    return mean if value.half_width is None else f"{mean} ± {row.scale.text(value.half_width)}"


def _decided(row: Row) -> str:
    told = [f"{one.kind} {RELATION[one.kind]} {NAMES[arm]}" for arm, one in row.verdicts.items() if one.kind in RELATION]
    return ", ".join(told) or ("undecided" if row.verdicts else "")


def _mark(arm: Arm) -> Html:
    return tag("span", class_=f"mark {arm}", aria_hidden="true")
