"""What a metric is: how it is shown, which way is better, and which numbers of a record are it."""

import math
from dataclasses import replace

import pytest

from qat import tasks
from qat.tasks.metric import Metric, check_metrics, find_metric, fraction

RMSE = Metric("rmse", "lower", unit="K", range=(0.0, None))


def test_a_fraction_is_shown_in_percent_and_its_differences_in_points():
    accuracy = fraction("accuracy")
    assert (accuracy.heading, accuracy.difference_unit, accuracy.margin) == ("accuracy, %", "points", 0.3)
    assert accuracy.text(accuracy.shown(0.97123)) == "97.12"
    assert accuracy.text(-0.001, sign=True) == "+0.00"
    assert (accuracy.largest_difference, accuracy.worsening, accuracy.label) == (100.0, "drop", "accuracy, %")


def test_a_metric_that_is_better_low_says_so_in_its_own_unit():
    assert (RMSE.heading, RMSE.difference_unit, RMSE.label) == ("rmse, K", "K", "rmse, K (lower is better)")
    assert (RMSE.sign, RMSE.worsening, RMSE.largest_difference) == (-1, "rise", None)
    assert RMSE.text(RMSE.shown(0.97123)) == "0.9712"


def test_an_interval_ends_where_values_do():
    assert RMSE.interval(-1.0, 2.0) == (0.0, 2.0)
    assert RMSE.interval(-1.0, 2.0, difference=True) == (-1.0, 2.0)
    assert fraction("f1").interval(99.0, 101.0) == (99.0, 100.0)
    assert fraction("f1").interval(-120.0, 101.0, difference=True) == (-100.0, 100.0)
    assert RMSE.interval(None, 2.0) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("f1", "f1"),
        ("f1/cat", "f1"),
        ("validation/f1", "f1"),
        ("validation/f1/cat/striped", "f1"),
        ("f1/rmse", "f1"),
        ("top/f1", "top/f1"),
        ("macro_f1", None),
        ("cat", None),
    ],
)
def test_numbers_of_classes_and_of_other_splits_are_the_same_metric(name, found):
    known = (RMSE, fraction("f1"), Metric("top/f1", "lower"))
    expected = next((replace(one, name=name) for one in known if one.name == found), None)
    assert find_metric(known, name) == expected


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "`name`"),
        ({"better": "more"}, "`better` .* got 'more'"),
        ({"factor": 0.0}, "`factor` .* positive"),
        ({"factor": math.inf}, "`factor`"),
        ({"margin": -0.1}, "`margin` .* got -0.1"),
        ({"decimals": -1}, "`decimals`"),
        ({"range": (1.0, 0.0)}, "`range` .* rise"),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        Metric(**{"name": "rmse", **fields})


def test_a_task_needs_metrics_of_different_names_and_a_direction_of_the_first():
    task = tasks.build("classification")
    assert task.metric.name == "accuracy"
    for metrics, said in (
        ("accuracy", r"must be a tuple of `Metric`s, the main one first, got 'accuracy'"),
        ((), "must be a tuple"),
        ((RMSE, RMSE), "must differ in name, got rmse, rmse"),
        ((Metric("threshold", None), RMSE), "'threshold', must have a direction"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(task, metrics=metrics)
    check_metrics((RMSE,))


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_describes_its_metrics(name):
    task = tasks.build(name)
    assert task.metric.better == "higher" and task.metric.margin == 0.3
    assert len({metric.name for metric in task.metrics}) == len(task.metrics)


def test_what_has_no_direction_is_better_no_way():
    with pytest.raises(ValueError, match="Choose a metric with a direction"):
        _ = Metric("threshold", None).sign
