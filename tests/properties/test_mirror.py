"""The direction of a metric: a study told by its errors comes out as the same one told by its accuracy."""

import csv
import io
import math
from typing import Any

import pytest
from mirrored import HIGHER, LOWER, mirror, mirrored_digits, study
from often import slow_after
from records import write_study
from searches import LAYERS, PTQ, Runs, accuracy, bits, go, record_of

from qat.lab.report.mcnemar import paired
from qat.lab.report.pareto import COSTS, best, points
from qat.lab.report.summary import Row, summarize
from qat.lab.report.table import csv_text, markdown
from qat.lab.stats import Estimate
from qat.lab.sweep.space import Search

NUMBERS = (0, 1)
SIDES = ("drop_from_float", "drop_from_control", "gain_over_ptq")


def both(tmp_path, number: int, *, items: bool = False, **options: Any) -> tuple[list[Row], list[Row]]:
    """The rows of a study and of its mirror image, compared over test items too where asked."""
    records, folders = study(tmp_path / "higher", number, **options)
    mirrored, places = mirror(tmp_path / "lower", records, folders)
    return summarize(records, folders if items else None), summarize(mirrored, places if items else None)


def numbers(value: Estimate | None) -> list[float]:
    """An estimate's numbers; none of no estimate."""
    return [] if value is None else [value.mean, value.low or 0.0, value.high or 0.0, value.n]


@pytest.mark.parametrize(("number", "options"), [(0, {}), (1, {"seeds": 1}), (2, {"right_or_wrong": False})], ids=str)
def test_drops_gains_and_verdicts_of_a_mirrored_study_are_the_same(tmp_path, number, options):
    rows, mirrored = both(tmp_path, number, items=True, **options)
    assert [row.metric for row in (rows[0], mirrored[0])] == [HIGHER, LOWER]
    kinds = set()
    for row, other in zip(rows, mirrored, strict=True):
        assert other.score.mean == pytest.approx(100 - row.score.mean)
        for side in SIDES:
            assert numbers(getattr(other, side)) == pytest.approx(numbers(getattr(row, side)), abs=1e-9)
        assert row.verdicts.keys() == other.verdicts.keys()
        for baseline, verdict in row.verdicts.items():
            reflected = other.verdicts[baseline]
            kinds.add(verdict.kind)
            assert (reflected.kind, reflected.covers, reflected.margin) == (verdict.kind, verdict.covers, 0.3)
            assert reflected.text.replace("a rise of", "a drop of") == verdict.text
    assert "worse" in kinds


@pytest.mark.parametrize("number", NUMBERS)
def test_the_front_of_a_mirrored_study_has_the_same_arms(tmp_path, number):
    rows, mirrored = both(tmp_path, number, right_or_wrong=False)  # no two arms reach the same
    for cost in COSTS:
        front = best(points(rows), cost, HIGHER)
        assert best(points(mirrored), cost, LOWER) == front
        assert cost != "size" or 1 < len(front) < len(rows)


def test_tables_of_a_mirrored_study_have_its_signs_and_say_which_way_is_better(tmp_path):
    rows, mirrored = both(tmp_path, 0)
    lines, reflected = (list(csv.DictReader(io.StringIO(csv_text(found)))) for found in (rows, mirrored))
    assert {line["better"] for line in lines} == {"higher"} and {line["better"] for line in reflected} == {"lower"}
    for line, other in zip(lines, reflected, strict=True):
        for side in SIDES:
            assert float(other[side] or math.nan) == pytest.approx(float(line[side] or math.nan), nan_ok=True, abs=1e-9)
    text, other = markdown(rows, "s"), markdown(mirrored, "s")
    assert "| drop / float | drop / control | gain / PTQ |" in text
    assert "| rise / float | rise / control | gain / PTQ |" in other
    assert "a positive rise is worse" in other and "Lower is better of error." in other
    assert "Lower is better" not in text
    assert [text.count(mark) for mark in "▲▼"] == [other.count(mark) for mark in "▲▼"]


def test_mcnemar_counts_what_is_right_whichever_way_outcomes_are_told(tmp_path):
    records, folders = study(tmp_path / "higher", 0, seeds=2)
    told = []
    for name, (found, places) in {"a": (records, folders), "b": mirror(tmp_path / "lower", records, folders)}.items():
        root = write_study(tmp_path / name, found)
        for trial, place in places.items():
            (place / "examples.npz").rename(root / "trials" / trial / "examples.npz")
        told.append([(one.arm, one.baseline, one.tests) for one in paired(root)])
    assert told[0] == told[1] and told[0]


def error_of(trial, value, size=1000):
    """The record of the mirrored task."""
    made = record_of(trial, value, size)
    return made.model_copy(
        update={"task_metrics": (LOWER,), "metrics": dict.fromkeys(("error", "validation/error"), 1 - value)}
    )


@pytest.mark.parametrize("pruner", slow_after(1, ["median(startup=2)", "none", "halving(least=1, factor=2)"]))
@pytest.mark.parametrize("sampler", ["random", "tpe(startup=4)"])
@pytest.mark.parametrize("watched", ["metric", "loss"])
def test_a_search_of_a_mirrored_task_takes_the_same_decisions(tmp_path, pruner, sampler, watched):
    search = Search(space={f"bits:{layer}": [2, 4, 8] for layer in LAYERS}, trials=9, sampler=sampler, pruner=pruner)

    def training(value_of):
        def train(trial, watch):
            for step in (1, 2, 4):
                reached = accuracy(trial.config) * (1 - 0.5 / step)
                watch("qat", step, {"loss": 1 - reached, **({} if watched == "loss" else value_of(reached))})

        return train

    class Mirrored(Runs):
        def __call__(self, trial, watch):
            self.ran.append(trial.id)
            self.before(trial, watch)
            return error_of(trial, accuracy(trial.config), size=100 * sum(bits(trial.config).values()))

    base = PTQ.model_copy(update={"arm": "qat"})
    one = go(search, tmp_path / "a", Runs(before=training(lambda reached: {"accuracy": reached})), base)
    with mirrored_digits() as name:
        other = base.model_copy(update={"data": name})
        two = go(search, tmp_path / "b", Mirrored(before=training(lambda reached: {"error": 1 - reached})), other)
    assert (one.objective.better, two.objective.better) == ("higher", "lower")
    assert [(p.values, p.outcome) for p in two.points] == [(p.values, p.outcome) for p in one.points]
    assert [p.number for p in two.ranking] == [p.number for p in one.ranking]
    assert one.best is not None and max(p.value or 0 for p in one.ranking) == one.best.value
