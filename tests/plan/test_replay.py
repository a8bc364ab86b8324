"""A replayed trial gives the same numbers, and says so where it does not."""

import json
import shutil

import pytest
from jobs import silent

from qat.record import RECORD_FILE, read_record
from qat.sealed import write_sealed
from qat.sweep.replay import replay


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

    monkeypatch.setattr("qat.sweep.replay.run_experiment", same_again)
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
