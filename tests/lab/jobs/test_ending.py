"""However a sweep ends, nothing that it started outlives it, and the next one takes up what it held."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from work import WORK, finished_in, is_gone, job, pids, wait_for

from qat.lab.jobs.execute import execute
from qat.lab.jobs.leases import last_claim
from qat.lab.jobs.presence import lock

ROOT = Path(__file__).parents[3]
POOL = "pool(workers=2)"
SWEEP = """
import signal, sys
from pathlib import Path
from work import *
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from qat.lab.jobs.execute import execute
root = Path(sys.argv[1])
jobs = [job("a", "wait", until="go"), job("b", sys.argv[3], until="go", bytes=1000)]
execute(jobs, root, sys.argv[2], is_finished=finished_in(root), work=WORK, settle=0.0)
"""


def start_sweep(root, runner=POOL, second="wait"):
    """A sweep in a process of its own, both jobs of which have begun: "a" waits, "b" does what `second` says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(root), runner, second], env=environment, stderr=subprocess.PIPE, text=True
    )
    marks = [root / "a.waits", root / ("b.waits" if second == "wait" else "b.child")]
    wait_for(lambda: all(mark.exists() for mark in marks), "the start of both jobs")
    return process


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_that_is_told_to_end_leaves_no_worker_and_no_claim(tmp_path, sent):
    process = start_sweep(tmp_path)
    process.send_signal(sent)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert all(map(is_gone, pids(tmp_path)))
    claims = [last_claim(tmp_path, name) for name in ("a", "b")]
    assert [claim.outcome for claim in claims if claim] == ["given back"] * 2
    assert not list((tmp_path / "claims/runners").iterdir())


@pytest.mark.parametrize("runner", ["inprocess", POOL])
def test_a_sweep_that_is_killed_leaves_no_worker_and_its_jobs_to_the_next(tmp_path, runner):
    if runner == "inprocess":
        (tmp_path / "b.waits").touch()
    process = start_sweep(tmp_path, runner)
    process.kill()
    process.communicate()
    wait_for(lambda: all(map(is_gone, pids(tmp_path))), "the end of the workers")
    outcome = execute([job("a"), job("b")], tmp_path, POOL, is_finished=finished_in(tmp_path), work=WORK, settle=0.0)
    assert [one.id for one in outcome.finished] == ["a", "b"]


def test_what_a_job_started_ends_with_a_sweep_that_is_killed(tmp_path):
    process = start_sweep(tmp_path, second="eat")
    wait_for(lambda: (tmp_path / "b.child").read_text())
    process.kill()
    process.communicate()
    wait_for(lambda: is_gone(int((tmp_path / "b.child").read_text())), "the end of what the job started")


HOLD = """
import sys, time
from pathlib import Path
from qat.lab.jobs.presence import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_worker_on_its_way_out_keeps_the_next_from_its_job(tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        monkeypatch.setattr("qat.lab.jobs.presence.LONGEST", 0.1)
        with pytest.raises(TimeoutError, match="another process still works in"), lock(path):
            pass
        other.kill()
        other.wait()
        with lock(path):
            pass
