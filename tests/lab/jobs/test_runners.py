"""A worker that goes wrong costs its job alone, and none outlives the sweep."""

import os
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest
from work import WORK, attempts, finished_in, is_gone, job, pids, wait_for

from qat.lab.jobs import machine, process
from qat.lab.jobs.events import JobRequest, Note, Progress, Started
from qat.lab.jobs.execute import execute
from qat.lab.jobs.log import read_failure
from qat.lab.jobs.runners import runners

ROOT = Path(__file__).parents[3]
POOL = "pool(workers=2)"


def sweep(jobs, root, runner=POOL, **rules):
    return execute(jobs, root, runner, is_finished=finished_in(root), work=WORK, settle=0.0, **rules)


def ids(jobs):
    return [one.id for one in jobs]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One sweep in the pool in which jobs go wrong in several ways."""
    root = tmp_path_factory.mktemp("mixed")
    jobs = [
        job("good"),
        job("raises", "raise"),
        job("dies", "kill"),
        job("dies-once", "kill", times=1),
        job("exits", "exit"),
        job("needs", needs=["good"], finds=["good"]),
        job("falls", needs=["dies"]),
    ]
    return root, sweep(jobs, root)


def test_what_goes_wrong_costs_its_job_alone(mixed):
    _, outcome = mixed
    assert ids(outcome.finished) == ["good", "dies-once", "needs"]
    assert {name: (failure.kind, failure.attempts) for name, failure in outcome.failed.items()} == {
        "raises": ("error", 2),
        "dies": ("killed", 2),
        "exits": ("killed", 2),
        "falls": ("dependency", 0),
    }


def test_a_failure_says_how_the_worker_ended(mixed):
    _, outcome = mixed
    assert "SIGKILL" in outcome.failed["dies"].error
    assert "exit code 3" in outcome.failed["exits"].error
    assert "raise ArithmeticError" in outcome.failed["raises"].traceback


LASTING = ["ValueError", "TypeError", "NameError", "AttributeError", "KeyError", "ImportError", "AssertionError"]
PASSING = ["OSError", "ConnectionResetError", "TimeoutError", "MemoryError", "RuntimeError"]


@pytest.mark.parametrize("runner", ["inprocess", "pool(workers=1)"])
def test_an_error_of_the_code_is_not_tried_again_and_one_that_may_pass_is(tmp_path, runner):
    jobs = [job(name, "raise named", error=name) for name in (*LASTING, *PASSING)]
    jobs.append(job("by a disk", "raise named", error="ValueError", cause="OSError"))
    outcome = sweep(jobs, tmp_path, runner, retries=1)
    tries = {name: failure.attempts for name, failure in outcome.failed.items()}
    assert tries == dict.fromkeys(LASTING, 1) | dict.fromkeys([*PASSING, "by a disk"], 2)


def test_a_worker_that_ends_in_an_exception_is_not_told_as_killed(tmp_path):
    outcome = sweep([job("odd", "raise named", error="Odd"), job("good")], tmp_path, retries=0)
    failure = outcome.failed["odd"]
    assert failure.kind == "error"
    assert failure.error.startswith("Odd: by name (")
    assert ids(outcome.finished) == ["good"]


SLOW_TO_END = (
    "import os, sys, time; [sys.stdin.readline() for _ in '12']; os.close(1); time.sleep(0.5); raise TypeError(3)"
)


def test_a_worker_that_takes_a_while_to_end_ends_as_it_would(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "command", lambda: [sys.executable, "-c", SLOW_TO_END])
    error = sweep([job("a")], tmp_path, "pool(workers=1)", retries=0).failed["a"].error
    assert "exit code 1" in error and "TypeError: 3" in error
    assert "SIGKILL" not in error and "memory" not in error


def test_the_log_holds_what_all_attempts_printed(mixed):
    root, _ = mixed
    log = (root / "dies-once" / "log.txt").read_text()
    assert log.index("printed by dies-once, attempt 1") < log.index("SIGKILL") < log.index("attempt 2")
    assert "ArithmeticError" in (root / "raises" / "log.txt").read_text()
    assert "printed by good" in (root / "good" / "log.txt").read_text()


def test_workers_live_on_between_jobs_and_end_with_the_sweep(tmp_path):
    sweep([job(str(number)) for number in range(8)], tmp_path)
    assert len(set(pids(tmp_path))) <= 2
    assert os.getpid() not in pids(tmp_path)
    assert all(map(is_gone, pids(tmp_path)))


def test_jobs_run_side_by_side(tmp_path):
    jobs = [job("a", "wait", until="b.waits"), job("b", "wait", until="a.waits")]
    assert ids(sweep(jobs, tmp_path).finished) == ["a", "b"]


def test_a_job_that_hangs_is_ended_with_a_word_on_where(tmp_path):
    outcome = sweep([job("a", "hang")], tmp_path, "pool(workers=1, hang_after=0.5)", retries=0)
    assert outcome.failed["a"].kind == "hang"
    assert "0.5 s of `hang_after`" in outcome.failed["a"].error
    assert "_hang" in (tmp_path / "a" / "log.txt").read_text()
    assert all(map(is_gone, pids(tmp_path)))


def test_a_job_that_takes_more_than_its_memory_is_ended_with_all_that_it_started(tmp_path):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    jobs = [job("a", "eat", bytes=400_000_000), job("b")]
    outcome = sweep(jobs, tmp_path, "pool(workers=1, memory_gb=0.3)", retries=0)
    assert outcome.failed["a"].kind == "memory"
    assert "more than the 0.3 GB of `memory_gb`" in outcome.failed["a"].error
    assert ids(outcome.finished) == ["b"]
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_no_other_job_starts_while_memory_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr("qat.lab.jobs.runners.pool.available_memory", lambda: 1.5 * machine.GB)
    told = []
    pool = runners.build("pool(workers=3, memory_gb=1)")(told.append)
    try:
        assert pool.room() == 1
        waiting = job("a", "wait", until="go")
        pool.start(JobRequest(str(tmp_path), WORK, "a", waiting.payload, str(tmp_path / "fence")))
        assert pool.room() == 0
        assert "1.5 GB of memory are available" in next(news.text for news in told if isinstance(news, Note))
        monkeypatch.setattr("qat.lab.jobs.runners.pool.available_memory", lambda: 9.0 * machine.GB)
        wait_for(lambda: not pool.wait(0.1) and pool.room() == 2, "room")
    finally:
        pool.close()


def test_where_nothing_runs_a_job_starts_however_little_memory_there_is(monkeypatch):
    monkeypatch.setattr("qat.lab.jobs.runners.pool.available_memory", lambda: 0.0)
    pool = runners.build("pool(workers=3)")(lambda _: None)
    assert pool.room() == 1
    pool.close()


@pytest.mark.parametrize("runner", ["inprocess", POOL])
def test_progress_is_told_while_a_job_runs(tmp_path, runner):
    told = []
    opened = runners.build(runner)(told.append)
    payload = job("a", "progress", steps=3).payload
    opened.start(JobRequest(str(tmp_path), WORK, "a", payload, str(tmp_path / "fence")))
    ends = []
    wait_for(lambda: ends.extend(opened.wait(0.1)) or ends, "the end")
    opened.close()
    assert isinstance(told[0], Started)
    assert str(pids(tmp_path)[0]) in told[0].where
    assert told[1] == Progress("a", "counting", 0, 3, 1.0)
    assert told[-1] == Progress("a", "counting", 3, 3, 0.25)
    assert ends[0].job == "a"


def test_a_worker_that_is_killed_from_outside_costs_a_try(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(sweep([job("a", "wait", until="go")], tmp_path)))
    thread.start()
    wait_for((tmp_path / "a.waits").exists, "the start of the job")
    (tmp_path / "a.waits").unlink()
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    wait_for((tmp_path / "a.waits").exists, "the second attempt")
    (tmp_path / "go").touch()
    thread.join(60)
    assert ids(found[0].finished) == ["a"]
    assert attempts(tmp_path) == ["a", "a"]
    assert read_failure(tmp_path / "a") is None


def test_a_worker_that_dies_idle_is_replaced(tmp_path):
    opened = runners.build("pool(workers=1)")(lambda _: None)
    ends = []
    for number in (1, 2):
        opened.start(JobRequest(str(tmp_path), WORK, "a", job("a").payload, str(tmp_path / "fence")))
        wait_for(lambda number=number: ends.extend(opened.wait(0.1)) or len(ends) == number, "the end")
        os.kill(pids(tmp_path)[-1], signal.SIGKILL)
        wait_for(lambda: is_gone(pids(tmp_path)[-1]))
    opened.close()
    assert [type(end).__name__ for end in ends] == ["Finished", "Finished"]


@pytest.mark.parametrize("text", ["pool(workers=0)", "pool(memory_gb=-1)", "pool(threads=0)", "pool(hang_after=0)"])
def test_a_pool_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match="must be positive"):
        runners.build(text)
