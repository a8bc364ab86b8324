"""A replayed trial gives the same numbers, and says so where it does not."""

import json

import pytest
from test_plan import TINY, run_all, silent

from qat.config import override
from qat.record import RECORD_FILE
from qat.sweep.replay import replay
from qat.sweep.study import make_study


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """The folder of a finished QAT trial."""
    root = tmp_path_factory.mktemp("runs")
    study = make_study("s", override(TINY, {"arm": "qat", "recipe": "w4a4"}), {})
    run_all(study, root)
    return root / "trials" / study.trials[0].id


def test_every_number_comes_out_the_same(trial):
    found = replay(trial, silent)
    assert found.same
    assert {"accuracy", "cross_entropy", "size_bytes", "model.safetensors", "examples: prediction"} <= {
        number.name for number in found.numbers
    }
    assert found.surroundings == {}


def test_another_number_and_another_version_are_told(trial, tmp_path):
    for path in trial.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    record["metrics"]["accuracy"] += 1e-9
    (tmp_path / RECORD_FILE).write_text(json.dumps(record))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["versions"]["jax"] = "0.0.1"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    found = replay(tmp_path, silent)
    assert [number.name for number in found.numbers if not number.same] == ["accuracy"]
    assert list(found.surroundings) == ["versions.jax"]


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no finished trial"):
        replay(tmp_path, silent)
