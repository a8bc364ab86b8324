# pyright: reportOptionalSubscript=false
"""What a study is before it runs: settings, trials, what they share, and an honest range of its cost."""

import json
from dataclasses import replace

import pytest
from studies import ARMS, BASE

from qat.core.tables import as_text
from qat.lab.experiment.config import override
from qat.lab.runs.record import Record, write_record
from qat.lab.sweep import cost as counting
from qat.lab.sweep.cost import Measured, estimate
from qat.lab.sweep.power import power, too_few
from qat.lab.sweep.run import plan
from qat.lab.sweep.show import show, span
from qat.lab.sweep.study import make_study
from qat.tasks.classification import METRICS

QAT = {"qat w8a8": {"arm": "qat", "recipe": "w8a8"}, "qat w4a4": {"arm": "qat", "recipe": "w4a4"}}
STUDY = make_study("s", BASE, {"arm": {**ARMS, **QAT}, "seed": [0, 1]})


def finish(root, job, seconds):
    """What a job leaves when it is done."""
    folder = root / job.id
    folder.mkdir(parents=True)
    if job.kind != "trial":
        (folder / "done.json").write_text(json.dumps({"kind": job.kind, "key": job.key, "seconds": seconds}))
        return
    config = counting.config_of(job)
    record = Record(
        trial=job.payload["trial"],
        key=job.key,
        labels={},
        arm=config.arm,
        recipe=config.recipe_name,
        seed=config.seed,
        lineage=job.payload["lineage"],
        task_metrics=METRICS,
        metrics={"accuracy": 0.9},
        examples=10,
        size_bytes=100,
        timings={"seconds": seconds},
    )
    write_record(folder, record)


def costs(study=STUDY, root=None, **options):
    return {cost.kind: cost for cost in estimate(plan(study), root, **options)}


def test_stages_that_trials_share_are_counted_once():
    found = {kind: (cost.jobs, cost.trials) for kind, cost in costs().items()}
    assert found == {"float": (2, 10), "trial": (10, 10), "control": (2, 2), "calibration": (4, 6), "qat": (4, 4)}


def test_where_nothing_was_measured_the_time_is_unknown_and_the_table_says_how_to_know(tmp_path):
    for cost in costs().values():
        assert cost.seconds is None and "--measure" in cost.basis
    finish(tmp_path, next(job for job in plan(STUDY) if job.kind == "float"), 1.0)
    last = as_text(show(STUDY, tmp_path)).partition("jobs, and the time")[2].splitlines()
    rows = {line.split()[0]: line for line in last if line.strip()}
    assert "unknown" in rows["qat"] and "unknown" in rows["all"] and "1 finished here" in rows["float"]


def test_more_steps_cost_more_and_all_kinds_make_the_sum():
    def probe(jobs):
        return {kind: Measured(start=1.0, step=0.5) for kind in ("float", "trial")}

    longer = make_study("s", override(BASE, {"train.steps": 1000}), {"seed": [0]})
    short = make_study("s", BASE, {"seed": [0]})
    one, other = (costs(study, probe=probe)["float"].seconds for study in (longer, short))
    assert one[0] > 50 * other[0] and one[1] > 50 * other[1]


def test_recipes_that_differ_in_bits_are_compiled_once():
    few = make_study("s", BASE, {"a": {f"w{b}": {"arm": "qat", "recipe": f"w{b}a8"} for b in (2, 4, 8)}})
    jobs = [job for job in plan(few) if job.kind == "qat"]
    assert len(jobs) == 3 and counting.programs_of(jobs) == 1
    more = [replace(job, payload={**job.payload, "config": {**job.payload["config"], "recipe": "w4"}}) for job in jobs]
    assert counting.programs_of([*jobs, *more]) == 2


def test_finished_jobs_cost_nothing_and_tell_what_others_of_their_kind_will(tmp_path):
    trainings = [job for job in plan(STUDY) if job.kind == "qat"]
    for job in trainings[:3]:
        finish(tmp_path, job, 4.0)
    cost = costs(root=tmp_path)["qat"]
    assert (cost.jobs, cost.finished, cost.basis) == (4, 3, "3 finished here")
    assert cost.seconds[0] < 4.0 < cost.seconds[1]
    finish(tmp_path, trainings[3], 4.0)
    assert costs(root=tmp_path)["qat"].seconds == (0, 0)
    assert costs(root=tmp_path)["float"].seconds is None


def test_the_time_of_a_finished_training_grows_with_steps(tmp_path):
    study = make_study("s", BASE, {"train.steps": [10, 10_000]})
    finish(tmp_path, next(job for job in plan(study) if job.kind == "float"), 1.0)
    cost = costs(study, tmp_path)["float"]
    assert cost.seconds[0] < 1000.0 < cost.seconds[1]


def test_finished_trials_are_recognised_by_their_records(tmp_path):
    trials = [job for job in plan(STUDY) if job.kind == "trial"]
    for job in trials[:5]:
        finish(tmp_path, job, 2.0)
    cost = costs(root=tmp_path)["trial"]
    assert cost.finished == 5
    assert cost.seconds[0] < 10.0 < cost.seconds[1]


def test_steps_that_were_measured_take_the_place_of_counting(tmp_path):
    asked = []

    def probe(jobs):
        asked.extend(job.kind for job in jobs)
        return {kind: Measured(start=1.0, step=0.5) for kind in ("float", "control", "calibration", "qat", "trial")}

    finish(tmp_path, next(job for job in plan(STUDY) if job.kind == "float"), 1.0)
    found = costs(root=tmp_path, probe=probe)
    assert "float" not in asked and {"qat", "trial"} <= set(asked)
    assert found["float"].basis == "1 finished here"
    assert found["qat"].basis == "a few steps, run now"
    assert found["qat"].seconds[0] < 1.0 + 4 * 5 * 0.5 < found["qat"].seconds[1]


@pytest.mark.slow
def test_a_few_steps_of_every_kind_of_job_can_be_measured():
    from qat.lab.sweep.cost import measure

    base = override(BASE, {"model": "cnn(width=4)", "train.batch_size": 8, "finetune.batch_size": 8})
    found = measure(plan(make_study("s", base, {"arm": {**ARMS, **QAT}})))
    assert set(found) == {"float", "control", "calibration", "qat", "trial"}
    assert all(one.start > 0 for one in found.values())
    assert all(0 < found[kind].step < found[kind].start for kind in ("float", "control", "qat"))


def test_multiply_accumulates_are_those_of_the_model():
    stem, down, body = 8 * 8 * 9 * 4, 4 * 4 * 9 * 4 * 8, 4 * 4 * 9 * 8 * 8
    assert counting.forward_macs("cnn(width=4)", "digits") == stem + down + body + 8 * 10


def test_settings_are_shown_with_their_defaults_and_what_differs_is_marked():
    text = as_text(show(STUDY)).partition("10 trials")[0]
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["calibration_batches"][1:] == ["8", "8"]
    assert lines["train.steps"][1:] == ["*", "10", "(no", "default)"]
    assert lines["train.optimizer"][1:] == ["'adamw'", "'adamw'"]
    assert lines["arm"][1:5] == ["*", "'float',", "'control',", "'ptq',"]
    assert lines["seed"][1:] == ["*", "0,", "1", "0"]


def test_recipes_of_rules_are_shown_as_what_sets_them_apart_from_the_first():
    base = override(BASE, {"arm": "ptq", "recipe": "w8a8"})
    text = as_text(show(make_study("s", base, {"recipe.rules.0.weights.bits": [8, 4]})))
    assert "how recipes differ from the first" in text
    assert "rules.0.weights.bits: 8 -> 4" in text
    assert "how recipes differ" not in as_text(show(STUDY))


def test_trials_are_shown_with_labels_stages_and_state(tmp_path):
    jobs = plan(STUDY)
    finish(tmp_path, next(job for job in jobs if job.kind == "trial"), 1.0)
    text = as_text(show(STUDY, tmp_path))
    rows = [line for line in text.splitlines() if "seed 0" in line or "seed 1" in line]
    assert len(rows) == 10
    assert rows[0].rstrip().endswith("finished") and not rows[1].rstrip().endswith("finished")
    trained = next(job.key[:6] for job in jobs if job.kind == "float")
    assert sum(f"float {trained}" in row for row in rows) == 5
    assert "calibration" in rows[-1] and "qat" in rows[-1]


@pytest.mark.parametrize(
    ("seeds", "said", "enough"),
    [
        ([0], "One seed an arm cannot decide what other seeds would show. Take 4 or more.", False),
        ([0, 1], "2 seeds an arm show a difference from 45 times its standard deviation over seeds on", False),
        ([0, 1, 2, 3], "4 seeds an arm show a difference from 2.9 times its standard deviation over seeds on", True),
    ],
    ids=["one", "two", "four"],
)
def test_what_the_seeds_can_show_is_said_before_the_run(seeds, said, enough):
    study = make_study("s", BASE, {"arm": {**ARMS, **QAT}, "seed": seeds})
    assert said in " ".join(as_text(show(study)).split())
    assert (too_few(study) == "") == enough
    assert "5 comparisons being made at once" in power(study) or len(seeds) == 1


def test_of_a_single_arm_the_seeds_need_show_nothing():
    assert power(make_study("s", BASE, {"seed": [0]})) == ""
    assert power(make_study("s", BASE, {"arm": {"qat": QAT["qat w8a8"]}})) == ""


def test_a_long_list_of_trials_is_cut_and_says_so():
    many = make_study("s", BASE, {"seed": list(range(100))})
    text = as_text(show(many, most=5))
    assert "... and 95 more" in text
    assert "0, 1, 2, 3, 4, 5, ... (100 values)" in text


def test_what_configs_say_is_not_taken_for_markup():
    study = make_study("s", BASE, {"arm": {"[red]x[/]": {"arm": "float"}}})
    assert "[red]x[/]" in as_text(show(study))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((0.0, 0.0), "0 s"),
        ((0.2, 3.2), "under 1 s to 3 s"),
        ((20.0, 180.0), "20 s to 3.0 min"),
        ((4000.0, 100_000.0), "67 min to 28 h"),
        ((5e5, 1e6), "6 days to 12 days"),
    ],
)
def test_a_range_of_seconds_reads_well(seconds, text):
    assert span(*seconds) == text
