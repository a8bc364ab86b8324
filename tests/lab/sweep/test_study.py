# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false, reportCallIssue=false
"""A study: trials multiplied out, run once each, never mixed with another study's."""

import io
import os

import pytest
from rich.console import Console
from studies import ARMS, BASE, QUIET, RAN

from qat.lab.experiment.config import override
from qat.lab.jobs.presence import present, this_process
from qat.lab.runs.record import RECORD_FILE
from qat.lab.runs.study_folder import open_study, read_study
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import arms, load_study, make_study
from qat.lab.sweep.validate import check_file
from qat.recipes.presets import recipe


def test_axes_multiply_out_with_the_last_one_fastest():
    study = make_study("s", BASE, {"train.weight_decay": [0.0, 0.1], "seed": [0, 1, 2]})
    assert [(t.config.train.weight_decay, t.config.seed) for t in study.trials] == [
        (decay, seed) for decay in (0.0, 0.1) for seed in (0, 1, 2)
    ]
    assert study.trials[-1].labels == {"train.weight_decay": "weight_decay 0.1", "seed": "seed 2"}


def test_arms_are_one_step_for_each_preset_with_the_same_options():
    found = arms("PTQ", "ptq", ["w8a8", "w4a4"], "observer='mse'", sensitive_share=0.1)
    study = make_study("s", BASE, {"arm": found})
    assert [t.labels["arm"] for t in study.trials] == ["PTQ w8a8", "PTQ w4a4"]
    assert [t.config.recipe for t in study.trials] == ["w8a8(observer='mse')", "w4a4(observer='mse')"]
    assert {(t.config.arm, t.config.sensitive_share) for t in study.trials} == {("ptq", 0.1)}


def test_an_axis_may_lead_into_the_rules_of_a_recipe():
    base = override(BASE, {"arm": "ptq", "recipe": "w8a8"})
    study = make_study("s", base, {"recipe.rules.0.weights.bits": [8, 6, 4], "recipe": ["w8a8", recipe("w4a4")]})
    found = [(t.config.rules.rules[0].weights.bits, t.config.rules.rules[0].activations.bits) for t in study.trials]
    assert found == [(weights, activations) for weights in (8, 6, 4) for activations in (8, 4)]
    assert study.trials[-2].labels == {"recipe.rules.0.weights.bits": "weights.bits 4", "recipe": "recipe w8a8"}
    assert study.trials[-1].labels["recipe"].startswith("recipe w4a4(rules='")
    assert len({t.id for t in study.trials}) == 6


def test_trial_ids_are_names_of_folders_and_change_with_the_config():
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1]})
    ids = [trial.id for trial in study.trials]
    assert len(set(ids)) == 6
    assert all(set("/\\ :") & set(trial_id) == set() for trial_id in ids)
    longer = make_study("s", BASE.model_copy(update={"calibration_batches": 9}), {"arm": ARMS, "seed": [0, 1]})
    assert not {trial.id for trial in longer.trials} & set(ids)


def test_of_the_combinations_those_that_the_file_wants_are_run(tmp_path):
    file = tmp_path / "few.py"
    file.write_text(
        "from studies import BASE\nAXES = {'calibration_batches': [1, 2], 'seed': [0, 1]}\n"
        "TRIALS = {'wide': {'model': 'cnn(width=32)'}}\n"
        "def wanted(labels): return labels['seed'] == 'seed 0' or labels['calibration_batches'].endswith('2')\n"
    )
    found = [(t.config.calibration_batches, t.config.seed) for t in load_study(file, {}).trials]
    assert found[:3] == [(1, 0), (2, 0), (2, 1)]
    assert len(found) == 4, "explicit trials are wanted in any case"
    assert check_file(file).trials == 4


def test_what_is_wrong_with_wanted_is_told():
    with pytest.raises(ValueError, match=r"`wanted` must take labels such as .* but KeyError: 'sed'"):
        make_study("s", BASE, {"seed": [0, 1]}, wanted=lambda labels: labels["sed"] == "seed 0")
    with pytest.raises(ValueError, match="`wanted` leaves all out"):
        make_study("s", BASE, {"seed": [0, 1]}, wanted=lambda labels: False)


def test_an_axis_may_be_called_trial():
    study = make_study(
        "s", BASE, {"trial": {"a": {"seed": 1}, "b": {"seed": 2}}}, wanted=lambda one: one["trial"] == "a"
    )
    assert [trial.config.seed for trial in study.trials] == [1]


def test_a_fast_study_is_another_one_with_the_changes_and_axes_of_its_file(tmp_path):
    file = tmp_path / "big.py"
    text = "from studies import BASE\nAXES = {'seed': [0, 1, 2], 'calibration_batches': [1, 2]}\n"
    file.write_text(text)
    with pytest.raises(ValueError, match="must define `FAST`"):
        load_study(file, {}, fast=True)
    file.write_text(text + "FAST = {'train.steps': 3, 'train.batch_size': 4}\nFAST_AXES = {'seed': [0]}\n")
    whole, small = load_study(file, {}), load_study(file, {"train.steps": 5}, fast=True)
    assert (whole.name, small.name, len(whole.trials), len(small.trials)) == ("big", "big-fast", 6, 2)
    assert {(t.config.train.steps, t.config.train.batch_size, t.config.seed) for t in small.trials} == {(5, 4, 0)}


def test_a_mistake_of_many_trials_is_told_once():
    with pytest.raises(ValueError, match="stepz") as caught:
        make_study("s", BASE, {"train.stepz": [1, 2], "seed": [0, 1, 2]})
    assert len(str(caught.value).splitlines()) == 1


def run(study, root, work="studies:at_once", console=QUIET):
    """The outcome of a study whose jobs are done at once, and the jobs that were done now."""
    RAN.clear()
    return run_study(study, root, work=work, retries=0, console=console), list(RAN)


def test_finished_jobs_are_not_run_again(tmp_path):
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1]})
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path, "studies:stops_at_the_fourth_trial")
    first = list(RAN)
    outcome, second = run(study, tmp_path)
    assert sorted([*first, *second]) == sorted(
        [*(trial.id for trial in study.trials), *(2 * ["float", "control", "calibration"])]
    )
    assert not outcome.failed
    assert run(study, tmp_path)[1] == []


def test_explicit_trials_come_beside_the_axes():
    study = make_study("s", BASE, {"seed": [0, 1]}, {"wide": {"model": "cnn(width=32)"}})
    assert [trial.labels for trial in study.trials] == [{"seed": "seed 0"}, {"seed": "seed 1"}, {"trial": "wide"}]
    assert study.trials[-1].config.model == "cnn(width=32)"
    assert len(make_study("s", BASE, {}, {"wide": {"model": "cnn(width=32)"}}).trials) == 1


def test_a_failure_costs_only_what_depends_on_it(tmp_path):
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1]})
    outcome, _ = run(study, tmp_path, "studies:fails_for_seed_1")
    records = open_study(tmp_path, study).scan().records
    assert {record.seed for record in records.values()} == {0}
    assert len(records) == 3
    assert "loss nan at step 3" in outcome.summary(tmp_path)


def test_a_damaged_record_is_named_and_its_trial_alone_run_again(tmp_path):
    study = make_study("s", BASE, {"seed": [0, 1, 2]})
    run(study, tmp_path)
    path = open_study(tmp_path, study).trial(study.trials[1].id) / RECORD_FILE
    path.write_text('{"trial": "s')
    out = io.StringIO()
    _, ran = run(study, tmp_path, console=Console(file=out, width=1000))
    assert ran == [study.trials[1].id]
    assert len(open_study(tmp_path, study).scan().records) == 3
    assert str(path) in out.getvalue()
    assert "is damaged" in out.getvalue()


def test_a_folder_of_another_study_is_refused_and_left_alone(tmp_path):
    run(make_study("first", BASE, {"seed": [0]}), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="belongs to the study 'first', not to 'second'"):
        open_study(tmp_path, make_study("second", BASE, {"seed": [0]}))
    assert sorted(tmp_path.rglob("*")) == before


def test_other_settings_are_refused_while_another_process_sweeps_the_folder(tmp_path):
    one, other = make_study("s", BASE, {"seed": [0]}), make_study("s", BASE, {"seed": [0, 1]})
    run(one, tmp_path)
    with present(tmp_path, this_process("test"), dict):
        run(one, tmp_path)
        with pytest.raises(ValueError, match=rf"process {os.getpid()} on .* with other settings: 1 of these 2 trials"):
            run(other, tmp_path)
        assert list(read_study(tmp_path).trials) == [trial.id for trial in one.trials]
    run(other, tmp_path)


def test_a_study_that_was_replaced_meanwhile_does_not_end_as_if_it_were_reported(tmp_path):
    outcome, _ = run(make_study("s", BASE, {"seed": [0]}), tmp_path)
    assert not outcome.failed
    with pytest.raises(ValueError, match="was swept with other settings meanwhile"):
        run(make_study("s", BASE, {"seed": [0, 1]}), tmp_path, work="studies:replaces_the_study")


def test_finished_trials_of_other_settings_are_told(tmp_path):
    run(make_study("s", BASE, {"seed": [0, 1]}), tmp_path)
    out = io.StringIO()
    run(make_study("s", BASE, {"seed": [1, 2]}), tmp_path, console=Console(file=out, width=200))
    assert "1 finished trials in" in out.getvalue()


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path):
    study = make_study("s", BASE, {"seed": [0]})
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not empty and holds no study"):
        open_study(tmp_path, study)
    with pytest.raises(ValueError, match="is a file"):
        open_study(tmp_path / "thesis.tex", study)


def test_a_damaged_study_file_can_be_deleted_without_losing_trials(tmp_path):
    study = make_study("s", BASE, {"seed": [0, 1]})
    run(study, tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match="Delete this one file"):
        open_study(tmp_path, study)
    (tmp_path / "study.json").unlink()
    assert len(open_study(tmp_path, study).scan().records) == 2
