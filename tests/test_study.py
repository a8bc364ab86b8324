"""A study: trials multiplied out, run once each, never mixed with another study's."""

import io

import pytest
from rich.console import Console
from studies import ARMS, BASE, QUIET, fake_trial

from qat.record import RECORD_FILE
from qat.sweep.folder import open_study
from qat.sweep.run import run_study
from qat.sweep.study import make_study


def test_axes_multiply_out_with_the_last_one_fastest():
    study = make_study("s", BASE, {"train.weight_decay": [0.0, 0.1], "seed": [0, 1, 2]})
    assert [(t.config.train.weight_decay, t.config.seed) for t in study.trials] == [
        (decay, seed) for decay in (0.0, 0.1) for seed in (0, 1, 2)
    ]
    assert study.trials[-1].labels == {"train.weight_decay": "weight_decay 0.1", "seed": "seed 2"}


def test_trial_ids_are_names_of_folders_and_change_with_the_config():
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1]})
    ids = [trial.id for trial in study.trials]
    assert len(set(ids)) == 6
    assert all(set("/\\ :") & set(trial_id) == set() for trial_id in ids)
    longer = make_study("s", BASE.model_copy(update={"calibration_batches": 9}), {"arm": ARMS, "seed": [0, 1]})
    assert not {trial.id for trial in longer.trials} & set(ids)


def test_a_mistake_of_many_trials_is_told_once():
    with pytest.raises(ValueError, match="stepz") as caught:
        make_study("s", BASE, {"train.stepz": [1, 2], "seed": [0, 1, 2]})
    assert len(str(caught.value).splitlines()) == 1


def test_finished_trials_are_not_run_again(tmp_path):
    study = make_study("s", BASE, {"arm": ARMS, "seed": [0, 1]})
    ran = []

    def stops_at_the_fourth(trial, folder, stages):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(trial.id)
        return fake_trial(lambda config: 0.5)(trial, folder, stages)

    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path, QUIET, stops_at_the_fourth)
    ran.append("stopped")
    records = run_study(study, tmp_path, QUIET, lambda t, f, s: ran.append(t.id) or fake_trial(lambda c: 0.5)(t, f, s))
    ids = [trial.id for trial in study.trials]
    assert ran == [*ids[:3], "stopped", *ids[3:]]
    assert [record.trial for record in records] == ids


def test_a_damaged_record_is_named_and_its_trial_alone_run_again(tmp_path):
    study = make_study("s", BASE, {"seed": [0, 1, 2]})
    run_study(study, tmp_path, QUIET, fake_trial(lambda config: 0.5))
    folder = open_study(tmp_path, study).trial(study.trials[1].id)
    (folder / RECORD_FILE).write_text('{"trial": "s')
    out = io.StringIO()
    ran = []

    def again(trial, folder, stages):
        ran.append(trial.id)
        (folder / RECORD_FILE).unlink()
        folder.rmdir()
        return fake_trial(lambda config: 0.6)(trial, folder, stages)

    records = run_study(study, tmp_path, Console(file=out, width=1000), again)
    assert ran == [study.trials[1].id]
    assert [record.metrics["accuracy"] for record in records] == [0.5, 0.6, 0.5]
    assert str(folder / RECORD_FILE) in out.getvalue()
    assert "is damaged" in out.getvalue()


def test_a_folder_of_another_study_is_refused_and_left_alone(tmp_path):
    run_study(make_study("first", BASE, {"seed": [0]}), tmp_path, QUIET, fake_trial(lambda config: 0.5))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="belongs to the study 'first', not to 'second'"):
        open_study(tmp_path, make_study("second", BASE, {"seed": [0]}))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path):
    study = make_study("s", BASE, {"seed": [0]})
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not empty and holds no study"):
        open_study(tmp_path, study)
    with pytest.raises(ValueError, match="is a file"):
        open_study(tmp_path / "thesis.tex", study)


def test_a_damaged_study_file_can_be_deleted_without_losing_trials(tmp_path):
    study = make_study("s", BASE, {"seed": [0, 1]})
    run_study(study, tmp_path, QUIET, fake_trial(lambda config: 0.5))
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match="Delete this one file"):
        open_study(tmp_path, study)
    (tmp_path / "study.json").unlink()
    assert len(open_study(tmp_path, study).scan().records) == 2
