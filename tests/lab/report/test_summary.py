"""The summary of a study: what is compared with what, over seeds and over items."""

import math

import numpy as np
import pytest
from records import make_record

from qat.core.tables import as_text
from qat.lab.report.html.verdicts import arms_table
from qat.lab.report.summary import summarize
from qat.lab.report.table import csv_text, markdown, rich_table
from qat.tasks.metric import Metric

PSNR = (Metric("psnr", unit="dB"),)
SEEDS = (0, 1, 2)


def study(variant="a", seeds=SEEDS, **changes):
    """Records of four arms, whose seeds share 1 point a seed."""
    arms = [("float", None, 0.90), ("control", None, 0.92), ("ptq", "w8a8", 0.85), ("qat", "w8a8", 0.91)]
    return [
        make_record(arm, recipe, seed, score + 0.01 * seed, variant, **changes)
        for arm, recipe, score in arms
        for seed in seeds
    ]


def known[T](value: T | None) -> T:
    """What must be there."""
    assert value is not None
    return value


def by_arm(rows):
    """Rows by arm, of which there is one each."""
    assert len({row.arm for row in rows}) == len(rows)
    return {row.arm: row for row in rows}


def test_trials_pair_with_the_float_model_the_control_and_the_ptq_of_their_seed():
    rows = by_arm(summarize(study()))
    assert list(rows) == ["float", "control", "ptq", "qat"]
    assert rows["float"].score.mean == pytest.approx(91.0)
    assert known(rows["control"].drop_from_float).mean == pytest.approx(-2.0)
    assert known(rows["ptq"].drop_from_float).mean == pytest.approx(5.0)
    assert known(rows["ptq"].drop_from_float).half_width == pytest.approx(0.0, abs=1e-9)
    assert known(rows["ptq"].drop_from_control).mean == pytest.approx(7.0)
    assert known(rows["qat"].gain_over_ptq).mean == pytest.approx(6.0)
    assert known(rows["qat"].gain_over_ptq).n == 3
    own = [rows["float"].drop_from_float, rows["control"].drop_from_control, rows["ptq"].gain_over_ptq]
    assert own == [None, None, None]


def test_rows_say_which_trials_they_are():
    row = by_arm(summarize(study()))["qat"]
    assert row.trials == ("a-qat-w8a8-0", "a-qat-w8a8-1", "a-qat-w8a8-2")
    assert (row.name, row.label, row.labels) == ("QAT w8a8", "qat w8a8", {"arm": "qat w8a8"})
    assert (row.metric.name, row.metric.difference_unit, row.recipe) == ("accuracy", "points", "w8a8")


def test_trials_of_other_settings_are_not_compared():
    alone = [record for record in study("b") if record.arm in ("ptq", "qat")]
    rows = summarize([*study("a"), *alone])
    others = [row for row in rows if row.trials[0].startswith("b")]
    assert [row.drop_from_float for row in others] == [None, None]
    assert others[1].gain_over_ptq is not None
    assert set(others[1].verdicts) == {"ptq"}
    assert len(summarize(alone)) == 2


def test_seeds_without_a_baseline_are_left_out_of_the_difference_alone():
    rows = by_arm(summarize([record for record in study() if (record.arm, record.seed) != ("ptq", 1)]))
    assert (rows["qat"].score.n, known(rows["qat"].gain_over_ptq).n, known(rows["qat"].drop_from_float).n) == (3, 2, 3)
    assert rows["ptq"].score.n == 2


def test_each_quantized_arm_is_judged_on_its_questions():
    rows = by_arm(summarize(study()))
    assert {arm: list(row.verdicts) for arm, row in rows.items()} == {
        "float": [],
        "control": [],
        "ptq": ["float"],
        "qat": ["control", "ptq"],
    }
    assert (
        rows["qat"].verdicts["ptq"].text.startswith("QAT w8a8 against PTQ w8a8 is undecided: a gain of +6.00 points")
    )  # no spread
    assert rows["qat"].verdicts["control"].second == "control"


def test_all_comparisons_are_corrected_together():
    rng = np.random.default_rng(0)
    records = [
        make_record(arm, recipe, seed, 0.9 - loss + 0.002 * rng.normal())
        for seed in range(4)
        for arm, recipe, loss in [("float", None, 0.0)]
        + [("ptq", recipe, loss) for recipe, loss in (("w8a8", 0.0), ("w4a4", 0.03), ("w2a4", 0.2))]
    ]
    found = [row.verdicts["float"] for row in summarize(records) if row.arm == "ptq"]
    assert [known(one.seeds).comparisons for one in found] == [3, 3, 3]
    assert [one.kind for one in found[1:]] == ["worse", "worse"]
    alone = summarize([record for record in records if record.recipe in (None, "w4a4")])[1].verdicts["float"]
    assert known(known(found[1].seeds).p_difference) > known(known(alone.seeds).p_difference)


def test_ptq_is_that_of_the_calibration_that_qat_went_on_from():
    def quantized(arm, calibration, score, seed):
        labels = {"method": f"{arm} with {calibration}", "seed": str(seed)}
        return make_record(
            arm, "w4a4", seed, score, labels=labels, stages={"calibration": f"{calibration} {seed}"},
            trial=f"{arm}-{calibration}-{seed}",
            lineage={"float_stage": f"float {seed}", "control": None, "group": f"{arm} {calibration}"},
        )  # fmt: skip

    few, many = (
        [quantized("ptq", name, score, seed) for seed in SEEDS] for name, score in (("few", 0.5), ("many", 0.7))
    )
    trained = [quantized("qat", "many", 0.9, seed) for seed in SEEDS]
    rows = {row.label: row for row in summarize([*few, *many, *trained])}
    assert known(rows["qat with many"].gain_over_ptq).mean == pytest.approx(20.0)
    assert rows["qat with many"].verdicts["ptq"].second == "ptq with many"
    silent = [record.model_copy(update={"stages": {}}) for record in (*few, *many, *trained)]
    assert summarize(silent)[-1].gain_over_ptq is None  # either could be meant


def test_a_quantizer_that_learns_is_compared_with_the_ptq_of_its_recipe_and_seed():
    def record(arm, recipe, seed, score):
        lineage = {"float_stage": "same", "control": None, "group": f"{arm} {recipe}"}
        return make_record(arm, recipe, seed, score, lineage=lineage)

    ptq = [record("ptq", "w4a4(observer='mse')", seed, 0.5 + seed / 100) for seed in SEEDS]
    other = [record("ptq", "w4a4(observer='minmax')", seed, 0.1) for seed in SEEDS]
    lsq = [record("qat", "w4a4(observer='mse', quantizer='lsq')", seed, 0.6 + seed / 100) for seed in SEEDS]
    gain = known(summarize([*ptq, *other, *lsq])[-1].gain_over_ptq)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((10.0, 10.0, 10.0))


def test_without_stages_ptq_has_the_labels_of_qat_but_for_the_arms():
    def record(arm, steps, score):
        labels = {"arm": arm, "train.steps": f"steps {steps}", "seed": "seed 0"}
        lineage = {"float_stage": "same", "control": None, "group": f"{arm} {steps}"}
        recipe = None if arm == "float" else "w4a4"
        return make_record(arm, recipe, 0, score, labels=labels, lineage=lineage, trial=f"{arm}-{steps}")

    records = [
        record(arm, steps, score + steps / 1000) for arm, score in (("ptq", 0.5), ("qat", 0.6)) for steps in (1, 2)
    ]
    rows = {row.label: row for row in summarize(records)}
    assert rows["qat, steps 2"].verdicts["ptq"].second == "ptq, steps 2"
    assert known(rows["qat, steps 2"].gain_over_ptq).mean == pytest.approx(10.0)


def test_the_margin_decides_what_is_equivalent():
    records = [
        make_record(arm, recipe, seed, 0.9 + 0.01 * seed + (0.004 + 0.0001 * seed if recipe else 0))
        for arm, recipe in (("float", None), ("ptq", "w8a8"))
        for seed in SEEDS
    ]
    kinds = [summarize(records, margin=margin)[1].verdicts["float"].kind for margin in (None, 1.0)]
    assert kinds == ["better", "equivalent"]


def test_sizes_and_latencies_are_ratios_to_the_float_model():
    records = study()
    assert [row.speed for row in summarize(records)] == [None] * 4
    timings = {"seconds": 1.0, "latency_ms": 2.0, "float_latency_ms": 5.0, "latency_batch": 8.0}
    rows = by_arm(summarize(study(timings=timings)))
    assert (rows["ptq"].size_bytes, rows["ptq"].size_ratio, rows["float"].size_ratio) == (100, 4.0, 1.0)
    speed = known(rows["ptq"].speed)
    assert (speed.latency_ms, speed.faster, speed.told_apart) == (2.0, 2.5, True)


def test_a_trial_without_a_finite_score_counts_in_its_row_alone():
    records = study()
    records[-1] = records[-1].model_copy(update={"metrics": {"accuracy": math.nan}})
    row = by_arm(summarize(records))["qat"]
    assert (row.score.n, len(row.trials), known(row.gain_over_ptq).n) == (2, 3, 2)
    none = [record.model_copy(update={"metrics": {"other": 1.0}}) for record in study()]
    rows = summarize(none)
    assert [row.score.n for row in rows] == [0] * 4 and math.isnan(rows[0].score.mean)
    assert not any(row.verdicts for row in rows)


def test_trials_of_the_same_settings_count_once():
    first, again = make_record(seed=0, score=0.5), make_record(seed=0, score=0.5, trial="another-name")
    assert summarize([first, again])[0].trials == ("another-name",)


def test_rows_that_arm_and_recipe_do_not_tell_apart_go_by_their_labels():
    records = [
        make_record("ptq", "w8a8", 0, 0.9, variant, labels={"arm": "ptq w8a8", "rate": variant}) for variant in "ab"
    ]
    assert [row.name for row in summarize(records)] == ["ptq w8a8, a", "ptq w8a8, b"]


def test_a_metric_that_is_no_fraction_is_summarized_as_it_is():
    records = [
        make_record(
            arm,
            recipe,
            seed,
            task_metrics=PSNR,
            metrics={"psnr": 30.0 + seed * (recipe is None)},
        )
        for arm, recipe in (("float", None), ("ptq", "w8a8"))
        for seed in SEEDS
    ]
    rows = by_arm(summarize(records))
    assert rows["float"].score.mean == pytest.approx(31.0)
    assert rows["ptq"].verdicts["float"].margin is None
    assert "points" not in rows["ptq"].verdicts["float"].text


def test_bits_of_multiplications_are_means_over_trials_in_every_table_but_the_narrow_one():
    shares = ({"8x8": 0.2, "4x4": 0.8}, {"8x8": 0.4, "4x4": 0.6}, {"8x8": 0.3, "4x4": 0.4, "4x8": 0.3})
    records = [make_record("ptq", "w4a4", seed, operations=one) for seed, one in enumerate(shares)]
    rows = summarize([make_record("float", None, 0), *records])
    assert rows[1].operations == pytest.approx({"4x4": 0.6, "8x8": 0.3, "4x8": 0.1})
    told = "60 % 4x4, 30 % 8x8, 10 % 4x8"
    assert told in markdown(rows, "s") and told in csv_text(rows) and told in str(arms_table(rows))
    assert "4x4" not in as_text(rich_table(rows, "s"), width=100)


def test_arms_whose_seeds_share_a_float_model_say_so():
    shared = {"float_stage": "one", "control": None, "group": "ptq"}
    records = [make_record("ptq", "w4a4", seed, lineage=shared) for seed in SEEDS]
    assert "conditional on that model" in markdown(summarize(records), "s")
    assert "conditional" not in markdown(summarize(study()), "s")


def test_no_records_make_no_rows():
    assert summarize([]) == []
