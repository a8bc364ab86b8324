# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportArgumentType=false
"""Detectors are compared on images drawn anew, in verdicts too."""

import numpy as np
import pytest
from made_up_detections import made_up
from records import make_record, write_examples

from qat.lab.report.summary import summarize
from qat.tasks.detection.metrics import metrics
from qat.tasks.detection.task import METRICS

IMAGES = 60
SEEDS = (0, 1, 2, 3)


def detector(folder, arm, recipe, seed, *, lost, changed=None):
    """A record of a detector that lost so large a share of the found boxes, and its folder."""
    arrays = made_up(images=IMAGES, detections=12, seed=1, decimals=9)
    gone = np.random.default_rng(seed).random(arrays["labels"].shape) < lost
    arrays["labels"] = np.where(gone, -1, arrays["labels"])
    numbers = {name: value for name, value in metrics(arrays).items() if "/" not in name}
    record = make_record(arm, recipe, seed, task_metrics=METRICS, metrics=numbers | (changed or {}), examples=IMAGES)
    return record, write_examples(folder / record.trial, **arrays)


def rows_of(folder, losses, seeds=SEEDS, **changes):
    found = [
        detector(folder, "float" if recipe is None else "ptq", recipe, seed, lost=lost, **changes)
        for recipe, lost in losses.items()
        for seed in seeds
    ]
    return summarize([record for record, _ in found], {record.trial: place for record, place in found})


def test_a_detector_that_loses_much_is_worse_for_other_seeds_and_images(tmp_path):
    _, same, worse = rows_of(tmp_path, {None: 0.02, "w8a8": 0.02, "w2a4": 0.5})
    lost = worse.verdicts["float"]
    assert (lost.kind, lost.covers) == ("worse", ("seeds", "items"))
    assert lost.items is not None and lost.both is not None and lost.seeds is not None
    assert lost.items.difference.n == IMAGES and lost.items.difference.mean == pytest.approx(
        -worse.drop_from_float.mean
    )
    widths = [one.difference.half_width for one in (lost.seeds, lost.items)]
    assert lost.both.difference.half_width > max(widths) * 0.9
    assert f"{IMAGES} test items" in lost.text and "both doubts together" in lost.text
    unchanged = same.verdicts["float"]
    assert unchanged.kind == "identical" and unchanged.items is not None and unchanged.items.difference.low is None


def test_the_spread_over_images_is_that_of_single_draws(tmp_path):
    (_, worse) = rows_of(tmp_path, {None: 0.0, "w2a4": 0.3}, seeds=(0,))
    items = worse.verdicts["float"].items
    rng = np.random.default_rng(5)
    sides = [made_up(images=IMAGES, detections=12, seed=1, decimals=9) for _ in range(2)]
    gone = np.random.default_rng(0).random(sides[1]["labels"].shape) < 0.3
    sides[1]["labels"] = np.where(gone, -1, sides[1]["labels"])
    drops = []
    for _ in range(60):
        draw = rng.integers(0, IMAGES, IMAGES)
        first, second = (metrics({name: x[draw] for name, x in side.items()})["map50_95"] for side in sides)
        drops.append(100 * (second - first))
    assert items.difference.half_width / 1.96 == pytest.approx(np.std(drops), rel=0.3)


def test_detections_that_do_not_make_the_recorded_number_are_left_out(tmp_path):
    rows = rows_of(tmp_path, {None: 0.0, "w2a4": 0.3}, changed={"map50_95": 0.5})
    assert rows[1].verdicts["float"].items is None
