"""Power of a study: the differences that its seeds can show, and the seeds that its declared contrasts ask for."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from qat import data, tasks
from qat.lab.experiment.config import QUANTIZED, lineage
from qat.lab.runs.record import Record
from qat.lab.runs.study_folder import holds_study, read_study
from qat.lab.stats import FEW, detectable
from qat.lab.stats.contrasts import Contrast, find_arm
from qat.lab.stats.power import POWER, power_of_difference, power_of_equivalence, seeds_for
from qat.lab.sweep.study import Study
from qat.tasks.metric import Metric, find_metric

PILOT = 3  # finished pairs of seeds whose spread says more than an assumption


def power(study: Study) -> str:
    """The differences that its seeds can show, in a sentence or two; empty where no quantized arm is compared."""
    groups: dict[str, set[int]] = {}
    arms = {}
    for trial in study.trials:
        group = lineage(trial.config).group
        groups.setdefault(group, set()).add(trial.config.seed)
        arms[group] = trial.config.arm
    asked = Counter(arms.values())
    if not (asked["ptq"] or asked["qat"]) or len(groups) < 2:
        return ""
    seeds = min(len(found) for group, found in groups.items() if arms[group] in QUANTIZED)
    if seeds == 1:
        return f"One seed an arm cannot decide what other seeds would show. Take {FEW} or more."
    all_asked = asked["ptq"] * bool(asked["float"]) + asked["qat"] * (bool(asked["control"]) + bool(asked["ptq"]))
    count = max(1, all_asked - len(study.contrasts))
    kind = "comparisons that are not declared" if study.contrasts else "comparisons"
    among = f", {count} {kind} being made at once" if count > 1 else ""
    shown = (
        f"{seeds} seeds an arm show a difference from {detectable(seeds, count):.2g} times its standard deviation "
        f"over seeds on{among}"
    )
    return f"{shown}, and have no interval worth showing. Take {FEW} or more." if seeds < FEW else f"{shown}."


def too_few(study: Study) -> str:
    """The warning where a study has fewer seeds than an interval needs; else empty."""
    said = power(study)
    return said if said.endswith("or more.") else ""


def metric_problems(study: Study) -> list[str]:
    """A line for each contrast in a number that the study's task does not describe, or describes without a direction.

    Opens the data set. Raises `MissingDataError` where it is not there.
    """
    lines = []
    for one in study.contrasts:
        known = _metrics(study, one)
        found = known[0] if one.metric is None else find_metric(known, one.metric)
        if found is None or found.better is None:
            names = ", ".join(metric.name for metric in known if metric.better)
            lines.append(f"`CONTRASTS`: {one}: no such metric with a direction is known. Known: {names}.")
    return lines


def contrast_table(study: Study, root: Path | None) -> Table:
    """The declared contrasts, their power, and the seeds that they need; the spread is that of finished trials in
    `root`, of a contrast's `sd`, or assumed."""
    count = len(study.contrasts)
    table = Table(
        title=Text("declared contrasts" + (f", corrected for {count} (Holm)" if count > 1 else "")),
        caption=Text(
            f"Chances to show a true difference of that size, and to show equivalence of arms that do not differ, and "
            f"the seeds that make them {POWER:.0%} (paired t tests; sd is that of the paired difference over seeds)."
        ),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("contrast", "difference", "sd", "from", "seeds", "chance", "needs", "equivalent", "needs"):
        left = heading in ("contrast", "from")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    records = _finished(root)
    for one in study.contrasts:
        table.add_row(*map(Text, _row(study, one, records)))
    return table


def _row(study: Study, one: Contrast, records: Mapping[str, Record]) -> list[str]:
    metrics, count = _metrics(study, one), len(study.contrasts)
    metric = (metrics[0] if one.metric is None else find_metric(metrics, one.metric)) or metrics[0]
    margin = metric.margin if one.margin is None else one.margin
    difference = margin if one.difference is None else one.difference
    seeds = min(_seeds(study, one.first), _seeds(study, one.second))
    sd, source = _spread(one, metric, margin, _pairs(study, one, records))
    unit = f" {metric.difference_unit}".rstrip()
    told = [str(one), "" if difference is None else f"{difference:g}{unit}", "" if sd is None else f"{sd:.2g}"]
    chances = ["", "", "", ""]
    if sd is not None and difference is not None:
        chances[:2] = _chance(seeds, lambda n: power_of_difference(n, difference, sd, count))
    if sd is not None and margin is not None:
        chances[2:] = _chance(seeds, lambda n: power_of_equivalence(n, margin, sd, count))
    return [*told, source, str(seeds), *chances]


def _chance(seeds: int, of: Callable[[int], float]) -> list[str]:
    needed = seeds_for(of)
    return [f"{of(seeds):.0%}" if seeds > 1 else "none", "> 1,000" if needed is None else str(needed)]


def _spread(
    one: Contrast, metric: Metric, margin: float | None, pairs: list[tuple[float, float]]
) -> tuple[float | None, str]:
    """The standard deviation of the paired difference, and where it is from."""
    if one.sd is not None:
        return one.sd, "the study file"
    if len(pairs) >= PILOT:
        found = metric.shown(float(np.std([first - second for first, second in pairs], ddof=1)))
        if found > 0:
            return found, f"{len(pairs)} finished seeds"
    return margin, "an assumption: the margin" if margin is not None else "unknown: give `sd`"


def _pairs(study: Study, one: Contrast, records: Mapping[str, Record]) -> list[tuple[float, float]]:
    """The metric of both arms, by seeds that are finished in both."""
    arms, sides = study.arms, []
    for name in (one.first, one.second):
        group = find_arm(name, arms)
        of_arm = [record for record in records.values() if record.lineage.group == group]
        named = [(record.seed, record.metrics.get(one.metric or record.metric.name)) for record in of_arm]
        sides.append({seed: value for seed, value in named if value is not None and np.isfinite(value)})
    return [(value, sides[1][seed]) for seed, value in sides[0].items() if seed in sides[1]]


def _seeds(study: Study, name: str) -> int:
    group = find_arm(name, study.arms)
    return len({trial.config.seed for trial in study.trials if lineage(trial.config).group == group})


def _metrics(study: Study, one: Contrast) -> tuple[Metric, ...]:
    group = find_arm(one.first, study.arms)
    config = next(trial.config for trial in study.trials if lineage(trial.config).group == group)
    return tasks.build(data.load(config.data).task).metrics


def _finished(root: Path | None) -> Mapping[str, Record]:
    return {} if root is None or not holds_study(root) else read_study(root).scan().records
