"""Finished runs at an address of an object store are read like those of a folder; nothing runs there."""

import sys

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from jobs import TINY, run_all
from typer.testing import CliRunner

from qat.fileio import folder
from qat.lab.cli import app
from qat.lab.experiment.config import override
from qat.lab.inspect.trial import load_trial
from qat.lab.jobs.execute import execute
from qat.lab.jobs.job import Job
from qat.lab.report.contents import read_contents
from qat.lab.runs import curves, histograms, layers, load
from qat.lab.sweep.run import run_study
from qat.lab.sweep.status import status
from qat.lab.sweep.study import make_study

ADDRESS = "s3://bucket/runs"
ARMS = {"float": {"arm": "float"}, "ptq": {"arm": "ptq", "recipe": "w8a8"}}
STUDY = make_study("s", override(TINY, {"latency_batch_size": None}), {"arm": ARMS})


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A finished study on this machine."""
    root = tmp_path_factory.mktemp("here") / "runs"
    run_all(STUDY, root)
    return root


@pytest.fixture
def there(here, monkeypatch):
    """A copy of it at `ADDRESS`, in a store that lives in memory."""
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", MemoryFileSystem)
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    root = folder(ADDRESS)
    for path in sorted(here.rglob("*")):
        if path.is_file() and "checkpoints" not in path.parts:
            (root / path.relative_to(here)).write_bytes(path.read_bytes())
    return root


def command(*arguments):
    """Run a command of `qat`, and return what it wrote to stdout."""
    found = CliRunner().invoke(app, [*map(str, arguments)])
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.mark.parametrize("read", [load, curves, layers, histograms], ids=lambda read: read.__name__)
def test_frames_of_an_address_are_those_of_the_folder(here, there, read):
    mine, other = read(here), read(ADDRESS)
    assert len(mine) and mine.attrs["damaged"] == other.attrs["damaged"] == []
    assert mine.drop(columns="folder", errors="ignore").equals(other.drop(columns="folder", errors="ignore"))


def test_a_trial_at_an_address_loads_with_its_model(here, there):
    for trial in STUDY.trials:
        mine, other = load_trial(here / "trials" / trial.id), load_trial(f"{ADDRESS}/trials/{trial.id}")
        assert other.record == mine.record
        x = np.ones((2, *mine.signature.input_shape), np.float32)
        for one, same in zip(_outputs(mine, x), _outputs(other, x), strict=True):
            np.testing.assert_array_equal(one, same)


def _outputs(t, x):
    """Outputs of a trial's deployed model, and of the variables that it was made from."""
    if t.quantized is None:
        return [t.functions.inference(t.variables, x)]
    return [t.quantized.serve(t.converted, x), t.quantized.simulate(t.variables, t.state, x)]


def test_the_report_of_an_address_is_written_beside_it(here, there):
    contents = read_contents(there)
    assert set(contents.records) == {trial.id for trial in STUDY.trials} and contents.problems == []
    assert "ptq" in command("report", ADDRESS)
    assert (there / "report" / "table.csv").read_text() == _report_of(here)


def _report_of(root):
    command("report", root)
    return (root / "report" / "table.csv").read_text()


def test_status_and_replay_read_an_address(there):
    found = status(there, check=True)
    assert (len(found.finished), found.damaged, found.running) == (2, {}, ())
    trial = next(trial.id for trial in STUDY.trials if trial.config.arm == "ptq")
    assert "every number is the same" in command("replay", f"{ADDRESS}/trials/{trial}")
    told = command("show", ADDRESS, "--why", trial)
    assert [told.count(f"{kind}-") for kind in ("float", "calibration")] and told.count(": finished") == 3


@pytest.mark.parametrize("address", ["gs://bucket/runs", "memory://runs"])
def test_nothing_runs_at_an_address(address, monkeypatch, tmp_path):
    expected = rf"must be a folder on a file system .*got the address '{address}'.*copy it there"
    with pytest.raises(ValueError, match=expected):
        run_study(STUDY, address)
    with pytest.raises(ValueError, match=expected):
        execute([Job("a", "trial", "a", "key", (), {})], address, "inprocess", is_finished=lambda job: False)
    file = tmp_path / "study.py"
    file.write_text("raise RuntimeError('it was loaded')")
    for name in ("sweep", "run", "search"):
        found = CliRunner().invoke(app, [name, str(file), "--runs", address])
        assert found.exit_code == 2 and address in found.stderr and "copy it there" in found.stderr
