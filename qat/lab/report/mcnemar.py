"""McNemar's test of every arm against its float model and against PTQ, seed by seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from qat.lab.report.contents import read_contents
from qat.lab.report.kept import KEPT, read_kept
from qat.lab.report.pairing import Baselines, groups
from qat.lab.runs.examples import reader
from qat.lab.runs.record import Arm, Record
from qat.lab.stats import McNemar, holm, mcnemar

BASELINES: tuple[Arm, ...] = ("float", "ptq")
RIGHT_OR_WRONG = (0, 1)


@dataclass(frozen=True)
class Paired:
    """An arm and the one that it is compared with. Of the `tests`, by seed, the arm is the first; `p_values` are
    theirs, corrected for all seeds of all arms (Holm)."""

    arm: str
    baseline: Arm
    tests: dict[int, McNemar]
    p_values: dict[int, float]


def paired(root: Path, warn: Callable[[str], Any] = lambda _: None) -> list[Paired]:
    """The tests over the test examples of a study's finished trials, in its order; `root` may also be a kept table.
    `warn` is told of damaged files.

    Raises `ValueError` where no trial has, with a baseline, examples that are right or wrong.
    """
    if root.suffix in KEPT:
        kept = read_kept(root)
        records, examples = list(kept.records), kept.outcomes.examples
    else:
        contents = read_contents(root)
        for problem in contents.problems:
            warn(problem)
        records, examples = list(contents.records.values()), reader(contents.folders)
    baselines = Baselines(records)
    found: list[tuple[str, Arm, dict[int, McNemar]]] = []
    for group in groups(records):
        for baseline in BASELINES:
            tests = {}
            for one, other in baselines.comparable(group, baseline):
                first, second = (_right(record, examples(record, None)) for record in (one, other))
                if first is not None and second is not None:
                    tests[one.seed] = mcnemar(first, second)
            if tests:
                found.append((group.label if group.labels else group.name, baseline, tests))
    if not found:
        raise ValueError(
            f"{str(root)!r} must have a quantized trial beside its float model, finished, with test examples that are "
            "right or wrong. It has none: is it a classifier's study?"
        )
    corrected = iter(holm([test.p_value for *_, tests in found for test in tests.values()]))
    return [Paired(*one, p_values={seed: next(corrected) for seed in one[-1]}) for one in found]


def _right(record: Record, outcomes: np.ndarray | None) -> np.ndarray | None:
    """1 for each example that is right, else 0; None where a record's main metric is no mean of such outcomes."""
    if outcomes is None or not np.isin(outcomes, RIGHT_OR_WRONG).all():
        return None
    return outcomes if record.metric.better == "higher" else 1 - outcomes


def paired_table(rows: Sequence[Paired]) -> Table:
    """The McNemar table for the terminal: counts are sums over the seeds, p is each seed's own, corrected for all seeds
    of all arms in the table.
    """
    table = Table(title="McNemar's test over the test examples", box=SIMPLE_HEAD, padding=0)
    for name in ("arm", "against", "it alone right", "baseline alone right", "p, seed by seed"):
        table.add_column(name, justify="left" if name in ("arm", "against") else "right", overflow="fold")
    count = sum(len(row.tests) for row in rows)
    table.caption = f"p-values are corrected for all {count} tests (Holm); each is about the models of one seed."
    for row in rows:
        tests = [test for _, test in sorted(row.tests.items())]
        counts = sum(test.only_first for test in tests), sum(test.only_second for test in tests)
        table.add_row(
            row.arm, row.baseline, *map(str, counts), ", ".join(f"{p:.2g}" for _, p in sorted(row.p_values.items()))
        )
    return table
