"""A study as jobs: each stage once, after what it needs; what is finished stays, what has changed is set aside."""

import json

import pytest
from jobs import ALL, TINY, run_all, silent
from studies import BASE

from qat.lab.experiment.code import Code
from qat.lab.experiment.config import override
from qat.lab.runs.record import RECORD_FILE, read_record
from qat.lab.sweep.run import plan
from qat.lab.sweep.study import make_study
from qat.lab.sweep.work import run_job

SAVED = override(TINY, {"train.checkpoint_every": 3})  # the config of the finished study


def kinds(ids):
    """How many jobs of each kind."""
    found = [name.split("/")[1].split("-")[0] if name.startswith("stages") else "trial" for name in ids]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def test_every_job_comes_after_what_it_needs_and_once():
    jobs = plan(make_study("s", BASE, {"arm": ALL, "seed": [0, 1]}))
    ids = [job.id for job in jobs]
    assert len(set(ids)) == len(ids)
    for number, job in enumerate(jobs):
        assert set(job.needs) <= set(ids[:number])


def test_stages_are_shared():
    jobs = plan(make_study("s", BASE, {"arm": ALL, "seed": [0, 1]}))
    assert kinds([job.id for job in jobs]) == {"calibration": 4, "control": 2, "float": 2, "qat": 2, "trial": 10}


def test_payloads_are_plain_json():
    jobs = plan(make_study("s", BASE, {"arm": ALL}))
    assert all(json.loads(json.dumps(job.payload)) == job.payload for job in jobs)


def test_what_is_finished_is_not_done_again(done):
    assert run_all(*done) == []


def test_a_trial_folder_tells_all_about_its_trial(done):
    study, root = done
    for trial in study.trials:
        folder = root / "trials" / trial.id
        record = read_record(folder)
        assert record is not None
        assert {"config.json", "manifest.json", "metrics.jsonl", "examples.npz", "model.safetensors"} <= {
            path.name for path in folder.iterdir()
        }
        assert (folder / "layers.json").exists() == (record.recipe is not None)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        trained = [kind for kind in record.stages if kind != "calibration"]
        assert list(dict.fromkeys(line["stage"] for line in lines)) == trained
        assert lines[-1]["step"] == (3 if record.arm in ("control", "qat") else 4)
        assert record.size_bytes == (folder / "model.safetensors").stat().st_size


def test_a_changed_setting_redoes_what_depends_on_it_alone(copied):
    arms = {"arm": {name: ALL[name] for name in ("float", "ptq w8a8", "qat w8a8")}}
    again = run_all(make_study("s", override(SAVED, {"finetune.steps": 2}), arms), copied)
    assert kinds(again) == {"qat": 1, "trial": 3}  # a trial's id is its config's, so all three have new folders


def test_a_trial_whose_code_has_changed_is_redone_and_the_old_result_kept(copied, monkeypatch):
    study = make_study("s", SAVED, {"arm": {"float": {"arm": "float"}}})
    trial = copied / "trials" / study.trials[0].id
    old = (trial / RECORD_FILE).read_text()
    monkeypatch.setattr("qat.lab.experiment.stages.code_of", lambda *parts: Code({"edited.py": "other"}, {}))
    assert kinds(run_all(study, copied)) == {"float": 1, "trial": 1}
    assert (trial / RECORD_FILE).read_text() != old
    (kept,) = (copied / "superseded").iterdir()
    assert (kept / RECORD_FILE).read_text() == old


def test_a_damaged_record_is_redone_and_kept_aside(copied):
    study = make_study("s", SAVED, {"arm": {"float": {"arm": "float"}}})
    record = copied / "trials" / study.trials[0].id / RECORD_FILE
    whole = json.loads(record.read_text())
    record.write_text("{")
    assert kinds(run_all(study, copied)) == {"trial": 1}
    again = json.loads(record.read_text())
    assert {**again, "timings": None, "digest": None} == {**whole, "timings": None, "digest": None}
    assert [path.name.rsplit("-", 1)[1] for path in (copied / "superseded").iterdir()] == ["damaged"]


def test_a_job_of_other_code_is_refused(tmp_path):
    job = plan(make_study("s", TINY, {"arm": {"float": {"arm": "float"}}}))[0]
    with pytest.raises(ValueError, match="have changed since"):
        run_job(str(tmp_path), {**job.payload, "key": "0" * 12}, silent)


def test_a_model_that_the_study_file_registers_is_known_where_the_job_runs(tmp_path, monkeypatch):
    from qat import models

    file = tmp_path / "mine.py"
    file.write_text(
        "from flax import linen as nn\nfrom qat import models\n\n\n@models.register\ndef mine(classes):\n"
        "    return models.build('cnn(width=4)', classes=classes)\n"
    )
    config = {**TINY.model_dump(mode="json"), "model": "mine"}
    monkeypatch.setattr(models.models, "_factories", dict(models.models._factories))
    job = plan(make_study("s", TINY, {"arm": {"float": {"arm": "float"}}}))[0]
    with pytest.raises(ValueError, match="Unknown model 'mine'"):
        run_job(str(tmp_path), {**job.payload, "config": config}, silent)
    with pytest.raises(ValueError, match="have changed since"):  # known now, but another model than the job was for
        run_job(str(tmp_path), {**job.payload, "config": config, "imports": [str(file)]}, silent)
