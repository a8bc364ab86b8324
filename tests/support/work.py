"""Jobs that succeed, fail, hang or die on request, for tests of what runs them; they need no jax."""

import builtins
import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from qat.lab.jobs.job import Job

WORK = "work:run"
LONGEST_WAIT = 60.0  # seconds; a test that gets there has failed


def job(name, do="succeed", needs=(), kind="trial", **payload):
    """A job that does what it says; one in need of others finds their results."""
    return Job(name, kind, f"label of {name}", f"key of {name}", tuple(needs), {"id": name, "do": do, **payload})


def finished_in(root):
    return functools.partial(_is_finished, root)


def _is_finished(root, one):
    return (root / one.id / "done.json").exists()


def attempts(root):
    """The ids of all attempts, in the order in which they began."""
    path = root / "attempts.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def pids(root):
    """The processes that did the attempts, in order."""
    return [int(line.split()[1]) for line in (root / "attempts.txt").read_text().splitlines()]


def is_gone(pid):
    """Whether the process ended, be it waited for or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition, what="the condition"):
    """Wait until `condition()` holds, which it does sooner or later unless the test has failed."""
    until = time.monotonic() + LONGEST_WAIT
    while not condition():
        assert time.monotonic() < until, f"{what} did not come true"
        time.sleep(0.01)


def run(root, payload, report):
    """Do what `payload` says; unless that ends otherwise, leave a result."""
    root = Path(root)
    folder = root / payload["id"]
    folder.mkdir(parents=True, exist_ok=True)
    number = attempts(root).count(payload["id"]) + 1
    with (root / "attempts.txt").open("a") as file:
        file.write(f"{payload['id']} {os.getpid()}\n")
    for need in payload.get("finds", ()):
        assert (root / need / "done.json").exists()
    sys.stdout.write(f"printed by {payload['id']}, attempt {number}\n")
    if number <= payload.get("times", 10**9):
        ACTIONS[payload["do"]](root, payload, report)
    if payload["do"] != "leave nothing":
        (folder / "done.json").write_text(json.dumps({"pid": os.getpid(), "attempt": number}))


def _raise(root, payload, report):
    raise ArithmeticError("no such\n  number")


class Odd(BaseException):
    """No `Exception`: what catches those lets it pass."""


def _raise_named(root, payload, report):
    """Raise what `error` names, from what `cause` names where that is given."""
    errors = {**vars(builtins), "Odd": Odd}
    cause = errors[payload["cause"]]("the cause") if payload.get("cause") else None
    raise errors[payload["error"]]("by name") from cause


def _refuse(root, payload, report):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root / "file"))


def _kill(root, payload, report):
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(root, payload, report):
    report("hanging", 1, 10, None)
    time.sleep(LONGEST_WAIT)


def _eat(root, payload, report):
    """In a process of its own, which is the job's as well."""
    eater = f"food = bytes(range(1, 251)) * ({payload['bytes']} // 250); input()"
    process = subprocess.Popen([sys.executable, "-c", eater], stdin=subprocess.PIPE)
    (root / f"{payload['id']}.child").write_text(str(process.pid))
    process.wait(LONGEST_WAIT)


def _progress(root, payload, report):
    for step in range(payload["steps"] + 1):
        report("counting", step, payload["steps"], 1 / (step + 1))


def _wait(root, payload, report):
    """Until the file `until` is there; says first that it waits, by the file `<id>.waits`."""
    (root / f"{payload['id']}.waits").parent.mkdir(parents=True, exist_ok=True)
    (root / f"{payload['id']}.waits").touch()
    wait_for((root / payload["until"]).exists, payload["until"])


def _report_late(root, payload, report):
    _wait(root, payload, report)
    report("late", 1, 1, None)


def _where(root, payload, report):
    """Write the node of a Ray cluster that this runs on, then wait for `until`."""
    import ray

    (root / f"{payload['id']}.node").write_text(ray.get_runtime_context().get_node_id())
    _wait(root, payload, report)


ACTIONS = {
    "succeed": lambda root, payload, report: None,
    "leave nothing": lambda root, payload, report: None,
    "raise": _raise,
    "raise named": _raise_named,
    "refuse": _refuse,
    "exit": lambda root, payload, report: os._exit(3),
    "sys.exit": lambda root, payload, report: sys.exit(4),
    "kill": _kill,
    "hang": _hang,
    "eat": _eat,
    "progress": _progress,
    "wait": _wait,
    "where": _where,
    "report late": _report_late,
}
