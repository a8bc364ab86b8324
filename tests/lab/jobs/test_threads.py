"""Numbers of one study do not depend on what runs it: XLA computes with one number of threads, recorded and told."""

import json
import subprocess
import sys

import pytest
from programs import environment
from run_folders import make_runs

from qat.core.tables import as_text
from qat.lab.jobs import machine
from qat.lab.jobs.threads import USUAL, asked, cores, on_cores, using
from qat.lab.runs.study_folder import STUDY_FILE, threads_for
from qat.lab.sweep.status import status

COMPUTES = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from qat.lab.jobs.threads import started, threads, using
with using(3) as able:
    assert able and threads() == 3 and started() == 0
    import jax.numpy as jnp
    jnp.ones(3).sum().block_until_ready()
assert started() == threads() == 3
with using(2) as able:
    assert not able
"""


def test_xla_starts_with_the_threads_that_are_asked_for_whatever_the_cores(tmp_path):
    subprocess.run([sys.executable, "-c", COMPUTES], check=True, env=environment(tmp_path))


def test_what_is_asked_for_ends_with_the_block(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    with using(5):
        assert asked() == 5
    assert asked() is None


def test_a_process_may_be_kept_to_fewer_cores_for_a_while():
    before = cores()
    with on_cores(1) as had:
        assert len(cores()) == had == 1
    assert cores() == before


def test_workers_compute_with_the_studys_threads_on_the_cores_that_they_have(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: [0, 1])
    monkeypatch.setattr(machine, "accelerators", list)
    monkeypatch.setenv("NPROC", "2")
    slots = machine.slots(2, None)
    assert [(slot.cores, slot.environment["NPROC"]) for slot in slots] == [((0,), "2"), ((1,), "2")]
    assert [slot.environment["NPROC"] for slot in machine.slots(None, 1)] == ["1", "1"]
    monkeypatch.delenv("NPROC")
    assert [slot.environment["NPROC"] for slot in machine.slots(2, None)] == ["1", "1"]


def test_a_study_keeps_the_threads_of_its_first_run(tmp_path, monkeypatch):
    monkeypatch.setattr("qat.lab.runs.study_folder.started", lambda: 0)
    monkeypatch.setattr("qat.lab.runs.study_folder.cores", lambda: list(range(64)))
    monkeypatch.delenv("NPROC", raising=False)
    assert threads_for(tmp_path / "new", "pool(workers=2)") == threads_for(tmp_path / "new") == USUAL
    assert threads_for(tmp_path / "new", "pool(threads=3)") == 3
    monkeypatch.setenv("NPROC", "5")
    assert threads_for(tmp_path / "new") == 5
    make_runs(tmp_path / "runs", 2, seeds=1)
    held = json.loads((tmp_path / "runs" / STUDY_FILE).read_text())
    (tmp_path / "runs" / STUDY_FILE).write_text(json.dumps({**held, "threads": 7}))
    assert threads_for(tmp_path / "runs", "pool(threads=3)") == 7


@pytest.mark.parametrize("mixed", [False, True])
def test_status_tells_trials_that_were_made_with_other_numbers_of_threads(tmp_path, mixed):
    make_runs(tmp_path, 2, seeds=2)
    for number, path in enumerate(sorted(tmp_path.glob("trials/*/record.json"))):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "threads": {"float": 2, "trial": 1 + (number % 2 if mixed else 1)}}))
    found = status(tmp_path)
    assert found.threads == ((1, 2) if mixed else (2,))
    assert ("made with 1 and 2 threads" in as_text(found)) is mixed
