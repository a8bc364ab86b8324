"""A job has one holder, whatever the order of events and however many processes want it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from work import attempts, wait_for

from qat.lab.jobs import leases as claims
from qat.lab.jobs import presence as alive
from qat.lab.jobs.leases import fence, is_free, last_claim, release, take
from qat.lab.jobs.presence import is_dead, living, modified, presence_file, presences, present, sweep_out, this_process

ROOT = Path(__file__).parents[3]
JOBS = 40
PROCESSES = 4

HAMMER = """
import sys
from pathlib import Path
from work import *
from qat.lab.jobs.execute import execute
root = Path(sys.argv[1])
jobs = [job(f"trials/{i}", needs=[f"trials/{i - 1}"] if i % 10 == 5 else []) for i in range(int(sys.argv[2]))]
(root / f"ready-{sys.argv[3]}").touch()
wait_for((root / "go").exists)
outcome = execute(jobs, root, "inprocess", is_finished=finished_in(root), work=WORK, settle=0.0)
assert not outcome.failed
assert len(outcome.before) + len(outcome.finished) + len(outcome.elsewhere) == len(jobs)
"""
GRAB = """
import sys
from pathlib import Path
from work import wait_for
from qat.lab.jobs.presence import present, this_process
from qat.lab.jobs.leases import take
root, me = Path(sys.argv[1]), this_process("test")
with present(root, me, dict):
    (root / f"ready-{sys.argv[3]}").touch()
    wait_for((root / "go").exists)
    held = [name for name in map(str, range(int(sys.argv[2]))) if take(root, name, me).holder == me]
    print(*held)
    sys.stdout.flush()
    (root / f"grabbed-{sys.argv[3]}").touch()
    wait_for((root / "leave").exists)
"""
DIE = """
import os, signal, sys
from pathlib import Path
from qat.lab.jobs.presence import present, this_process
from qat.lab.jobs.leases import take
root, me = Path(sys.argv[1]), this_process("test")
with present(root, me, dict):
    for name in map(str, range(int(sys.argv[2]))):
        assert take(root, name, me).holder == me
    os.kill(os.getpid(), signal.SIGKILL)
"""


def python(code, root, number=0, jobs=JOBS):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}
    command = [sys.executable, "-c", code, str(root), str(jobs), str(number)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def at_once(code, root):
    """Several processes that do the same at the same time."""
    processes = [python(code, root, number) for number in range(PROCESSES)]
    wait_for(lambda: all((root / f"ready-{number}").exists() for number in range(PROCESSES)), "the processes")
    (root / "go").touch()
    return processes


def someone_else(me, **differences):
    return replace(me, token="another", **differences)


@pytest.fixture
def me(tmp_path):
    """This process, present in the folder of the test."""
    holder = this_process("test")
    with present(tmp_path, holder, lambda: {"jobs": {}}):
        yield holder


def test_several_processes_on_one_folder_do_each_job_once(tmp_path):
    for process in at_once(HAMMER, tmp_path):
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert sorted(attempts(tmp_path)) == sorted(f"trials/{i}" for i in range(JOBS))
    assert presences(tmp_path) == []


def test_each_claim_of_a_dead_process_goes_to_one_of_those_who_want_it(tmp_path):
    dead = python(DIE, tmp_path)
    dead.communicate(timeout=60)
    processes = at_once(GRAB, tmp_path)
    wait_for(lambda: all((tmp_path / f"grabbed-{number}").exists() for number in range(PROCESSES)), "all claims")
    (tmp_path / "leave").touch()
    held = [name for process in processes for name in process.communicate(timeout=60)[0].split()]
    assert sorted(held, key=int) == [str(number) for number in range(JOBS)]


def test_a_claim_is_refused_while_its_holder_lives_and_free_once_it_is_released(tmp_path, me):
    other = this_process("test")
    with present(tmp_path, other, dict):
        first = take(tmp_path, "trials/a", me)
        assert first.holder == me
        assert take(tmp_path, "trials/a", other) == first
        release(tmp_path, first, "failed")
        assert last_claim(tmp_path, "trials/a") == replace(first, outcome="failed")
        second = take(tmp_path, "trials/a", other)
        assert (second.holder, second.number) == (other, 2)
        assert fence(tmp_path, first).exists()
        assert not fence(tmp_path, second).exists()


def test_a_late_release_does_not_touch_the_claim_of_who_took_over(tmp_path, me):
    gone = someone_else(me, pid=2**22 + 1)
    first = take(tmp_path, "a", gone)
    second = take(tmp_path, "a", me)
    release(tmp_path, first, "failed")
    assert last_claim(tmp_path, "a") == second


def test_a_process_number_that_is_used_again_does_not_keep_a_claim(tmp_path, me):
    before = someone_else(me, started=me.started - 1)
    presence_file(tmp_path, before.token).write_text("{}")
    assert is_free(tmp_path, take(tmp_path, "a", before), me)
    assert take(tmp_path, "a", me).holder == me


@pytest.mark.parametrize(
    ("silent", "dead"), [(alive.STALE - 5, False), (alive.STALE + 5, True)], ids=["fresh", "stale"]
)
def test_a_process_on_another_machine_is_dead_once_it_is_silent_for_long(tmp_path, me, silent, dead):
    far = someone_else(me, machine="far away", host="far")
    claim = take(tmp_path, "a", far)
    path = presence_file(tmp_path, far.token)
    path.write_text("{}")
    now = modified(presence_file(tmp_path, me.token))
    assert now is not None
    for one in (path, tmp_path / "claims/jobs/a/1.json"):
        os.utime(one, (now - silent, now - silent))
    assert is_free(tmp_path, claim, me) is dead
    assert (take(tmp_path, "a", me).holder == me) is dead


def test_clocks_of_machines_need_not_agree(tmp_path, me):
    far = someone_else(me, machine="far away")
    path = presence_file(tmp_path, far.token)
    path.write_text(json.dumps({"heartbeat": 0.0}))
    assert not is_dead(tmp_path, far, None, alive.clock(tmp_path, me))


@pytest.mark.parametrize("presence", [None, "fresh", "future"])
def test_a_time_in_the_future_is_no_sign_of_life(tmp_path, me, presence):
    far = someone_else(me, machine="far away")
    claim = take(tmp_path, "a", far)
    future = time.time() + 1e6
    if presence:
        presence_file(tmp_path, far.token).write_text("{}")
    if presence == "future":
        os.utime(presence_file(tmp_path, far.token), (future, future))
    assert not is_free(tmp_path, claim, me)
    os.utime(tmp_path / "claims/jobs/a/1.json", (future, future))
    assert is_free(tmp_path, claim, me) is (presence != "fresh")


def test_a_stopped_process_is_waited_for_no_longer_than_a_silent_one(tmp_path, me, monkeypatch):
    stopped = python(GRAB, tmp_path, 0, jobs=1)
    try:
        wait_for((tmp_path / "ready-0").exists)
        (tmp_path / "go").touch()
        wait_for((tmp_path / "grabbed-0").exists)
        os.kill(stopped.pid, signal.SIGSTOP)
        wait_for(lambda: psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED)
        assert take(tmp_path, "0", me).holder != me
        monkeypatch.setattr(alive, "STALE", 1.0)
        wait_for(lambda: take(tmp_path, "0", me).holder == me, "taking over")
        assert [holder.pid for holder in living(tmp_path)] == [os.getpid()]
        os.kill(stopped.pid, signal.SIGCONT)
        wait_for(lambda: stopped.pid in [holder.pid for holder in living(tmp_path)], "another sign of life")
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
        (tmp_path / "leave").touch()
        stopped.communicate(timeout=60)


def test_what_a_system_hides_of_others_counts_by_its_age(tmp_path, me, monkeypatch):
    def hidden(pid):
        raise psutil.NoSuchProcess(pid)

    def not_ours(pid, number):
        raise PermissionError

    other = someone_else(me, pid=os.getppid())
    presence_file(tmp_path, other.token).write_text("{}")
    monkeypatch.setattr(alive, "_began", hidden)
    monkeypatch.setattr(alive.os, "kill", not_ours)
    now = alive.clock(tmp_path, me)
    assert not is_dead(tmp_path, other, None, now)
    assert is_dead(tmp_path, other, None, now + alive.STALE + 5)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_claims_are_as_private_as_the_user_wants_files_to_be(tmp_path, umask):
    process = python(f"import os; os.umask({umask})\n{GRAB}", tmp_path, 0, jobs=2)
    wait_for((tmp_path / "ready-0").exists)
    (tmp_path / "go").touch()
    (tmp_path / "leave").touch()
    process.communicate(timeout=60)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "claims/jobs").rglob("*.json")}
    assert modes == {0o666 & ~umask}


@pytest.mark.parametrize("content", ["", "{", '{"holder": {"pid": 1}}'], ids=["empty", "cut off", "incomplete"])
def test_a_claim_that_cannot_be_read_is_held_until_it_is_old(tmp_path, me, content):
    path = tmp_path / "claims/jobs/a/3.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert take(tmp_path, "a", me).holder is None
    now = alive.clock(tmp_path, me) - alive.STALE - 60
    os.utime(path, (now, now))
    mine = take(tmp_path, "a", me)
    assert (mine.number, mine.holder) == (4, me)


def test_where_there_are_no_hard_links_a_claim_still_has_one_holder(tmp_path, me, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(claims.os, "link", no_links)
    other = this_process("test")
    with present(tmp_path, other, dict):
        assert take(tmp_path, "a", me).holder == me
        assert take(tmp_path, "a", other).holder == me


def test_files_of_dead_processes_are_swept_out_and_of_living_ones_kept(tmp_path, me):
    dead, living = someone_else(me, pid=2**22 + 1), this_process("test")
    presence_file(tmp_path, dead.token).write_text(json.dumps(vars(dead)))
    presence_file(tmp_path, "damaged").write_text("{")
    with present(tmp_path, living, dict):
        sweep_out(tmp_path, me)
        assert presence_file(tmp_path, living.token).exists()
    assert not presence_file(tmp_path, dead.token).exists()
    assert presence_file(tmp_path, me.token).exists()


def test_a_sign_of_life_carries_the_news_and_goes_with_the_process(tmp_path):
    holder = this_process("pool(workers=2)")
    with present(tmp_path, holder, lambda: {"jobs": {"a": 1}}):
        [(path, found)] = presences(tmp_path)
        assert alive.process_id_from(found) == holder
        assert found["jobs"] == {"a": 1}
    assert not path.exists()


def test_signs_that_are_called_digits_and_are_no_numbers_are_no_claims(tmp_path):
    place = tmp_path / "claims" / "jobs" / "a"
    place.mkdir(parents=True)
    (place / "²³.json").write_text("{}")
    assert last_claim(tmp_path, "a") is None
