"""The page's section on post-training methods and allocated bits, and on the checks that a study has not had."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qat.lab.report.html.curves import short
from qat.lab.report.html.markup import Html, join, table, tag
from qat.lab.runs.record import Record

STEP_HEADS = ("arm", "method", "changed", "left alone", "figures", "seconds")
POINT_HEADS = ("point", "cost", "predicted change of the loss", "loss on held-out batches")
SOME = 3  # names that stand for all
MOST_FIGURES = 6
MOST_FRONT = 40

type Groups = Mapping[str, Sequence[Record]]
"""Records by the name of their arm."""


def methods(groups: Groups, absent: Sequence[str]) -> Html:
    """Tell what post-training methods did and which bits were chosen within a budget, by arm; `absent` names what no
    trial of the study has."""
    steps = [line for name, records in groups.items() for line in _steps(name, records)]
    parts: list[Html] = []
    if steps:
        note = "Accounts of the first seed; seconds are means over seeds."
        parts += [tag("h3", "Post-training methods"), _step_table(steps)]
        parts += [tag("p", note, class_="faint")]
    for name, records in groups.items():
        if records[0].allocation:
            parts.append(_allocation(name, records[0].allocation))
    if absent:
        parts.append(tag("p", f"No trial of this study has {_listed(absent)}.", class_="faint"))
    return join(*parts)


def _step_table(steps: Sequence[tuple[str, ...]]) -> Html:
    """The accounts without columns that would be empty."""
    kinds = ("wrap", "", "wrap", "wrap", "wrap", "number")
    there = [k for k in range(len(STEP_HEADS)) if any(line[k] for line in steps)]
    lines = [[line[k] for k in there] for line in steps]
    return table([STEP_HEADS[k] for k in there], lines, "Post-training methods", [kinds[k] for k in there])


def has_steps(groups: Groups) -> bool:
    """Whether a post-training method was run."""
    return any(record.ptq for records in groups.values() for record in records)


def has_allocation(groups: Groups) -> bool:
    """Whether bits were chosen within a budget."""
    return any(record.allocation for records in groups.values() for record in records)


def _steps(name: str, records: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    for k, step in enumerate(records[0].ptq):
        taken = [record.ptq[k].get("seconds") for record in records if len(record.ptq) > k]
        known = [float(seconds) for seconds in taken if isinstance(seconds, int | float)]
        mean = f"{sum(known) / len(known):.2f}" if known else ""
        left = step.get("left") or {}
        reasons = "; ".join(dict.fromkeys(map(str, left.values())))
        yield (
            name if k == 0 else "",
            str(step.get("method", "?")),
            _some(list(map(str, step.get("changed") or []))),
            f"{_some(list(map(str, left)))} ({reasons})" if left else "",
            ", ".join(_figures(step.get("figures") or {})),
            mean,
        )


def _figures(found: Mapping[str, Any]) -> list[str]:
    told = [f"{name} {short(value)}" for name, value in found.items() if short(value) is not None]
    return told[:MOST_FIGURES] + [f"and {len(told) - MOST_FIGURES} more"] * (len(told) > MOST_FIGURES)


def _allocation(name: str, found: Mapping[str, Any]) -> Html:
    """The chosen bits with their cost, beside equal bits in all layers and other budgets."""
    unit, chosen = str(found.get("unit", "")), found.get("chosen") or {}
    points = [("chosen", chosen), ("equal bits", found.get("uniform") or {})]
    points += [("another budget", one) for one in (found.get("front") or [])[:MOST_FRONT]]
    lines = [_point(title, one, unit) for title, one in points if one]
    bits = table(("layer", "bits"), (chosen.get("bits") or {}).items(), f"Bits of {name}", ("", ""))
    took = " Equal bits were not beaten on held-out batches and were taken." if found.get("is_uniform") else ""
    limit = short(found.get("limit"))
    return join(
        tag("h3", f"Bits of {name} within a budget"),
        tag("p", f"Budget by {found.get('budget', '?')}: at most {limit} {unit}.{took}"),
        table(POINT_HEADS, lines, f"Budgets of {name}"),
        tag("details", tag("summary", "Bits of each layer"), bits),
    )


def _point(title: str, one: Mapping[str, Any], unit: str) -> tuple[str, ...]:
    numbers = [short(one.get(name)) for name in ("cost", "predicted", "loss")]
    texts = ["" if number is None else f"{number:,}" for number in numbers]
    return (title, f"{texts[0]} {unit}".strip(), *texts[1:])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SOME} more" if len(names) > SOME else ""
    return ", ".join(names[:SOME]) + more


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
