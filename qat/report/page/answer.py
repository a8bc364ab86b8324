"""The page's first section: the question, the verdicts in words, and the table of arms."""

from collections import Counter
from collections.abc import Sequence

from qat.record import Arm
from qat.report.page.arms import arms_table
from qat.report.page.markup import Html, join, tag
from qat.report.summary import Row
from qat.stats import Kind, Verdict

QUESTION = "Does training with quantization (QAT) beat calibrating after training (PTQ), and what does each cost?"
QUESTIONS: tuple[tuple[Arm, Arm, str], ...] = (
    ("qat", "ptq", "QAT against PTQ of the same recipe"),
    ("qat", "control", "QAT against the control: the float model trained on as long"),
    ("ptq", "float", "PTQ against the float model"),
)
KINDS: tuple[Kind, ...] = ("better", "equivalent", "identical", "worse", "undecided")
FEW = 8  # verdicts that stand open; of more those that show something do, and all are folded


def answer(rows: Sequence[Row]) -> Html:
    """Verdicts by question, then the numbers behind them."""
    if not rows:
        return tag("p", "No trial is finished yet. This page has more to say once one is.", class_="note")
    asked = [(title, _verdicts(rows, arm, baseline)) for arm, baseline, title in QUESTIONS]
    parts = [_verdict_list(title, found) for title, found in asked if found]
    return join(tag("p", QUESTION, class_="question"), *parts, tag("h3", "The arms in numbers"), arms_table(rows))


def _verdicts(rows: Sequence[Row], arm: Arm, baseline: Arm) -> list[Verdict]:
    return [row.verdicts[baseline] for row in rows if row.arm == arm and baseline in row.verdicts]


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
    """How many of each kind, and of the undecided ones how many are decided for the models as trained alone."""
    counts = Counter(one.kind for one in found)
    alone = Counter(one.of_these_models for one in found if one.kind == "undecided")
    told = [_badge(kind, counts[kind], kind) for kind in KINDS if counts[kind]]
    told += [_badge(kind, alone[kind], f"of them {kind} for these models alone") for kind in KINDS if alone[kind]]
    return join(*told)


def _badge(kind: Kind, count: int, text: str) -> Html:
    return tag("span", tag("b", str(count)), f" {text}", class_=f"kind {kind}")
