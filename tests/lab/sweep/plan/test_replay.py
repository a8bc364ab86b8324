"""A replayed trial gives the same numbers, and says so where it does not."""

import json
import shutil

import pytest
from jobs import silent

from qat.core.tables import as_text
from qat.lab.jobs.threads import asked
from qat.lab.runs.files import write_sealed
from qat.lab.runs.record import RECORD_FILE, read_record
from qat.lab.sweep.replay import replay, table


@pytest.fixture(scope="module")
def trial(done):
    """The folder of a finished QAT trial."""
    study, root = done
    (found,) = [trial.id for trial in study.trials if trial.config.arm == "qat"]
    return root / "trials" / found


def test_every_number_comes_out_the_same(trial):
    found = replay(trial, silent)
    assert found.same
    assert {"accuracy", "cross_entropy", "size_bytes", "model.safetensors", "examples: prediction"} <= {
        number.name for number in found.numbers
    }
    assert found.surroundings == {}


def test_another_number_and_another_version_are_told(trial, tmp_path, monkeypatch):
    def same_again(config, root, folder, about, report):
        return read_record(shutil.copytree(trial, folder))

    monkeypatch.setattr("qat.lab.sweep.replay.run_experiment", same_again)
    shutil.copytree(trial, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    record["metrics"]["accuracy"] += 1e-9
    write_sealed(tmp_path / RECORD_FILE, record)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["versions"]["jax"] = "0.0.1"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = replay(tmp_path, silent)
    assert [number.name for number in found.numbers if not number.same] == ["accuracy"]
    assert list(found.surroundings) == ["versions.jax"]


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no finished trial"):
        replay(tmp_path, silent)


def again_with(trial, study, changes):
    """Instead of a replay: the same trial, with what its files say changed."""

    def run(config, root, folder, about, report):
        for stage in (study / "stages").iterdir():
            shutil.copytree(stage, root / "stages" / stage.name)
        record = read_record(shutil.copytree(trial, folder))
        for path in [*root.glob("stages/*/*.json"), *folder.glob("*.json")]:
            for name, (old, new) in changes.items():
                if path.name == name:
                    assert old in path.read_text()
                    path.write_text(path.read_text().replace(old, new))
        assert record is not None
        metrics = {**record.metrics, "accuracy": record.metrics["accuracy"] + 1e-9}
        return record.model_copy(update={"metrics": metrics})

    return run


def test_other_threads_and_other_code_are_named_as_causes(trial, monkeypatch):
    study = trial.parent.parent
    threads = json.loads((trial / "manifest.json").read_text())["cpu"]["threads"]
    changes = {
        "manifest.json": (f'"threads": {threads}', '"threads": 99'),
        "key.json": ('"qat/data/digits.py": "', '"qat/data/digits.py": "0'),
    }
    monkeypatch.setattr("qat.lab.sweep.replay.run_experiment", again_with(trial, study, changes))
    found = replay(trial, silent)
    assert not found.same
    assert list(found.changed) == ["code qat/data/digits.py"]
    assert found.causes[0] == "code qat/data/digits.py has changed"
    assert f"XLA computed with {threads} threads and now with 99" in found.causes[1]
    assert "because code qat/data/digits.py has changed" in as_text(table(found))


def test_a_replay_computes_with_the_threads_that_were_recorded(trial, tmp_path, monkeypatch):
    seen = []

    def run(config, root, folder, about, report):
        seen.append(asked())
        return read_record(shutil.copytree(trial, folder))

    monkeypatch.setattr("qat.lab.sweep.replay.run_experiment", run)
    shutil.copytree(trial, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    write_sealed(tmp_path / RECORD_FILE, {**record, "threads": {"float": 3, "trial": 3}})
    assert replay(tmp_path, silent).same
    assert seen == [3]
