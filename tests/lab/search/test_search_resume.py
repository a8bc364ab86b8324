"""A search that is stopped, killed, shared or short of disk loses nothing and runs nothing twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from searches import SEARCH, Runs, go

from qat.lab.search.storage import JOURNAL

pytest.importorskip("optuna", reason="the extra search is not installed")

HERE = Path(__file__).parents[2]


def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(tmp_path):
    whole, stopped = Runs(), Runs()
    go(SEARCH, tmp_path / "whole", whole)

    def stop(trial, watch):
        if len(stopped.ran) in (3, 8):
            stopped.ran[-1] = "stopped"
            raise KeyboardInterrupt

    stopped.before = stop
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            go(SEARCH, tmp_path / "stopped", stopped)
    go(SEARCH, tmp_path / "stopped", stopped)
    assert [trial for trial in stopped.ran if trial != "stopped"] == whole.ran


KILLED = """
runs = Runs(before=lambda trial, watch: os.kill(os.getpid(), signal.SIGKILL) if len(runs.ran) == 4 else None)
go(SEARCH, root, runs)
"""
SHARED = """
go(SEARCH, root, Runs(before=lambda trial, watch: print(trial.id) or time.sleep(0.05)))
"""


def process(code, root):
    """A process that runs `code` with this search on `root`."""
    head = "import os, signal, sys, time; from pathlib import Path; from searches import *; root = Path(sys.argv[1])\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE / "support"), str(HERE.parent)])}
    command = [sys.executable, "-c", head + code, str(root)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_search_that_was_killed_goes_on_with_the_trial_that_it_was_at(tmp_path):
    killed = process(KILLED, tmp_path)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    runs, whole = Runs(), Runs()
    go(SEARCH, tmp_path, runs)
    go(SEARCH, tmp_path / "whole", whole)
    assert runs.ran == whole.ran[3:]


def test_processes_that_share_a_search_share_its_trials(tmp_path):
    processes = [process(SHARED, tmp_path) for _ in range(2)]
    ran = [line for one in processes for line in one.communicate()[0].splitlines()]
    assert [one.returncode for one in processes] == [0, 0]
    assert len(set(ran)) == len(ran)
    assert SEARCH.trials <= len(ran) <= SEARCH.trials + 1


def test_a_journal_that_was_cut_off_is_mended(tmp_path):
    go(SEARCH, tmp_path, Runs())
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"op_code": 4, "work')
    runs = Runs()
    go(SEARCH.model_copy(update={"trials": 14}), tmp_path, runs)
    assert len(runs.ran) == 2


def test_a_full_disk_ends_the_search_and_its_trial_is_taken_up_again(tmp_path):
    def full(trial, watch):
        raise OSError(28, "No space left on device")

    broken, runs = Runs(before=full), Runs()
    with pytest.raises(OSError, match="No space left"):
        go(SEARCH, tmp_path, broken)
    go(SEARCH, tmp_path, runs)
    assert runs.ran[0] == broken.ran[0] and len(runs.ran) == 12
