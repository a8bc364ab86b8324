"""Speeds in a report: one for each program, with what the measurements spread, and none below the noise."""

import time

import pytest
from records import make_record, write_study

from qat.lab.report.summary import summarize
from qat.lab.report.table import markdown
from qat.lab.runs import keep
from qat.lab.runs.speed import speeds
from qat.runtime import LEAST, in_turns, shortest


def timed(arm, recipe, seed, ms, faster, program="one", width=0.05, cores=2):
    """A record of a trial that was timed."""
    timings = {
        "seconds": 1.0, "latency_ms": ms, "float_latency_ms": ms * faster, "latency_batch": 8.0, "cores": cores,
        "faster": faster, "faster_low": faster - width, "faster_high": faster + width,
    }  # fmt: skip
    return make_record(arm, recipe, seed, program=program, timings=timings)


def told(records):
    """What the table's last column says, by row."""
    rows = summarize(records)
    lines = [line for line in markdown(rows, "s").splitlines() if line.startswith("| ")][2:]
    return {row.name: [cell.strip() for cell in line.split("|")][-3:-1] for row, line in zip(rows, lines, strict=True)}


def test_arms_of_one_program_have_one_time_and_no_ratio_that_their_trials_do_not_agree_on():
    ptq = [timed("ptq", "w4a4", seed, 0.48, 0.80) for seed in range(4)]
    qat = [timed("qat", "w4a4", seed, 0.36, 1.15) for seed in range(4)]
    assert told([*ptq, *qat]) == {"PTQ w4a4": ["0.42", "≈ 1x"], "QAT w4a4": ["0.42", "≈ 1x"]}


def test_a_program_that_is_faster_is_told_with_the_spread_of_all_its_trials():
    records = [timed("ptq", "w8a8", seed, 4.0, 2.5 + 0.2 * seed) for seed in range(3)]
    records += [timed("ptq", "w4a8", 0, 9.0, 0.5, program="other")]
    assert told(records) == {"PTQ w8a8": ["4", "2.70x (2.52 to 2.88)"], "PTQ w4a8": ["9", "0.50x (0.45 to 0.55)"]}
    alone = speeds(records[:1])[records[0].trial]
    assert (alone.low, alone.faster, alone.high) == pytest.approx((2.45, 2.5, 2.55))


def test_of_short_calls_a_ratio_is_told_by_four_trials_or_more():
    records = [timed("ptq", "w8a8", seed, 0.4, 2.0) for seed in range(4)]
    assert speeds(records[:3])[records[0].trial].faster is None
    assert told(records) == {"PTQ w8a8": ["0.4", "2.00x (1.95 to 2.05)"]}


def test_a_program_that_is_the_float_models_is_as_fast_whatever_was_measured():
    records = [timed("float", None, 0, 3.0, 1.0, program="same"), timed("ptq", "w8", 0, 3.0, 1.4, program="same")]
    assert told(records)["PTQ w8"] == ["3", "≈ 1x"]


def test_a_kept_table_has_one_ratio_a_program(tmp_path):
    records = [timed("float", None, 0, 4.0, 1.0, program="float")]
    records += [timed("ptq", "w8a8", seed, 4.0, 2.0 + seed) for seed in range(3)]
    runs = write_study(tmp_path / "runs", records)
    kept = keep(runs, tmp_path / "table.csv", ["accuracy"])
    assert kept["latency_ratio"].tolist() == [1.0] + 3 * [pytest.approx(1 / 3, abs=1e-3)]
    (low,), (high,) = ({*kept[f"latency_ratio_{end}"].tolist()[1:]} for end in ("low", "high"))
    assert low < 1 / 3 < high


def test_float_is_as_fast_as_itself():
    assert told([timed("float", None, 0, 3.0, 1.0, program="float")]) == {"float": ["3", "1.00x"]}


def test_times_on_other_cores_or_of_other_batches_are_not_taken_together():
    records = [timed("ptq", "w8a8", 0, 4.0, 2.0), timed("qat", "w8a8", 0, 8.0, 3.0, cores=1)]
    assert told(records)["QAT w8a8"] == ["8", "3.00x (2.95 to 3.05)"]


@pytest.mark.parametrize(("ms", "is_told"), [(2.0, True), (0.4, False)], ids=["2 ms", "0.4 ms"])
def test_older_records_tell_a_ratio_where_one_call_was_long_enough(ms, is_told):
    timings = {"seconds": 1.0, "latency_ms": ms, "float_latency_ms": 2.5 * ms, "latency_batch": 8.0}
    records = [make_record("ptq", "w8a8", seed, timings=timings) for seed in range(4)]
    speed = summarize(records)[0].speed
    assert speed is not None and speed.latency_ms == ms
    assert ("2.50x (2.50 to 2.50)" in markdown(summarize(records), "s")) == is_told


def test_short_calls_are_timed_several_at_once_and_in_both_orders():
    calls = []
    found = in_turns({"short": lambda: calls.append("s"), "long": lambda: (calls.append("l"), time.sleep(LEAST))}, 4)
    assert {name: len(times) for name, times in found.items()} == {"short": 4, "long": 4}
    assert calls.count("l") == 2 + 4 and calls.count("s") > 100
    assert "ll" in "".join(calls)  # the long one ended a round and began the next
    assert min(found["long"]) >= LEAST > 100 * min(found["short"])


def test_the_shortest_times_are_those_of_parts_that_span_all_rounds():
    assert {name: len(times) for name, times in shortest({"a": lambda: None}, 10).items()} == {"a": 5}
