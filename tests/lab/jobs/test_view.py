"""What a person sees of a sweep: while it runs, and of one that runs elsewhere."""

import io
import json
import re
import time
from dataclasses import asdict, replace

import pytest
from records import make_record
from rich.console import Console
from work import WORK, finished_in, job

from qat.lab.jobs.display import open_view
from qat.lab.jobs.execute import execute
from qat.lab.jobs.log import Failure, write_failure
from qat.lab.jobs.presence import presence_file, present, this_process
from qat.lab.jobs.progress import Running, Tally, duration, seconds_left
from qat.lab.runs.record import write_record
from qat.lab.sweep.status import rendered, status

JOBS = [
    job("stages/float", kind="float"),
    job("trials/a", needs=["stages/float"]),
    job("trials/b", "raise"),
    job("trials/c", "raise", times=1),
    job("trials/d", needs=["trials/b"]),
]


def shown(jobs, root, terminal):
    """What a sweep in this process writes to its console."""
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, color_system=None)
    with open_view(console, lambda one: f"{one.label}: accuracy 97.56 %") as view:
        execute(jobs, root, "inprocess", is_finished=finished_in(root), work=WORK, view=view, settle=0.0)
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", out.getvalue())


@pytest.mark.parametrize(("terminal", "start"), [(False, "^"), (True, "")], ids=["lines", "live"])
def test_there_is_a_line_for_each_job_that_is_over(tmp_path, terminal, start):
    text = shown(JOBS, tmp_path, terminal)
    for pattern in (
        r" {4}  label of stages/float: accuracy 97.56 %, 0.\d s$",
        r" 1/4  label of trials/a: accuracy 97.56 %, 0.\d s$",
        r"label of trials/b failed \(error\) and will be tried again: ArithmeticError: no such number \(.*work.py.*\)$",
        r" 2/4  label of trials/b FAILED \(error\): ArithmeticError: no such number \(.*work.py.*\)$",
        r" 3/4  label of trials/d FAILED \(dependency\): 'label of trials/b' failed",
        r" 4/4  label of trials/c: accuracy 97.56 %, 0.\d s$",
    ):
        assert re.search(start + pattern, text, re.MULTILINE), f"{pattern} in\n{text}"


def test_what_was_finished_before_is_counted(tmp_path):
    shown([job("trials/a")], tmp_path, False)
    text = shown([job("trials/a"), job("trials/b")], tmp_path, False)
    assert "1 of 2 trials are finished already." in text
    assert " 2/2  label of trials/b" in text


def test_a_terminal_shows_the_whole_and_each_running_job(tmp_path):
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    one = job("trials/a")
    with open_view(console, lambda _: "") as view:
        view.begin([one], [])
        view.running(one, Running("label", "trial", "here", time.time(), 1, "qat", 30, 120, 0.25))
        view.tally(Tally(12, 3, 1, 1, 2, 80.0))
    text = out.getvalue()
    for part in (
        "label of trials/a",
        "30/120",
        "qat  loss 0.25",
        "4/12",
        "1 running, 1 failed, 2 elsewhere, about 80 s",
    ):
        assert part in text


def test_markup_in_a_name_is_shown_as_it_is(tmp_path):
    assert "label of [red]a[/red]" in shown([job("[red]a[/red]")], tmp_path, False)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (52, "52 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_the_time_left_counts_each_kind_by_what_it_took():
    took = {"float": [10.0, 30.0], "trial": [2.0]}
    assert seconds_left(["float", "trial", "trial"], [], took, 2) == pytest.approx((20 + 2 + 2) / 2)
    begun = Running("", "float", "", time.time() - 15, 1)
    assert seconds_left([], [begun], took, 1) == pytest.approx(5, abs=0.1)
    assert seconds_left(["other"], [], took, 1) == pytest.approx(11)
    assert seconds_left(["float"], [], {}, 1) is None


@pytest.fixture
def root(tmp_path):
    """The folder of a study of five trials, of which one is finished and one failed."""
    listed = [{"id": name, "labels": {}} for name in "abcde"]
    (tmp_path / "study.json").write_text(json.dumps({"name": "study", "imports": [], "trials": listed}))
    (tmp_path / "trials" / "a").mkdir(parents=True)
    write_record(tmp_path / "trials" / "a", make_record(trial="a"))
    write_failure(tmp_path / "trials" / "b", Failure("no [such] number", "", 2, "error"))
    return tmp_path


def held(**differences):
    return Running("label of c", "trial", "here, pid 1", time.time() - 65, 1, **differences)


def words(found):
    out = io.StringIO()
    Console(file=out, width=200).print(rendered(found))
    return out.getvalue()


def test_status_says_what_runs_where_and_how_far_it_is(root):
    one = held(what="qat", step=30, steps=120, loss=0.25)
    with present(root, this_process("pool"), lambda: {"jobs": {"trials/c": asdict(one)}, "seconds_left": 90.0}):
        found = status(root)
    assert (found.trials, found.finished, found.abandoned) == (5, ("a",), ())
    [only] = found.running
    assert (only.id, only.running) == ("trials/c", one)
    assert found.failed == {"trials/b": Failure("no [such] number", "", 2, "error")}
    text = words(found)
    for part in (
        "study: 1 of 5 trials finished, 1 running, 1 failed, 2 to do; about 90 s left",
        "30/120 (25%)",
        "0.25",
    ):
        assert part in text
    assert "no [such] number" in text


def test_two_processes_take_less_time_than_one(root):
    with (
        present(root, this_process("pool"), lambda: {"jobs": {}, "seconds_left": 90.0}),
        present(root, this_process("pool"), lambda: {"jobs": {}, "seconds_left": 45.0}),
    ):
        assert status(root).seconds_left == pytest.approx(30.0)


def leave(root, **jobs):
    """What a process that was killed has left."""
    dead = replace(this_process("pool"), pid=2**22 + 1)
    path = presence_file(root, dead.token)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {f"trials/{name}": asdict(one) for name, one in jobs.items()}
    path.write_text(json.dumps({**asdict(dead), "jobs": content, "seconds_left": 1.0}))


def test_jobs_of_a_dead_process_are_abandoned_unless_they_are_over(root):
    leave(root, a=held(), b=held(), c=held())
    found = status(root)
    assert [one.id for one in found.abandoned] == ["trials/c"]
    assert (found.running, found.seconds_left) == ((), None)
    assert "nobody works on it" in words(found)
    assert "run the same sweep again" in words(found)


def test_a_job_that_was_taken_up_again_is_not_abandoned(root):
    leave(root, c=held())
    with present(root, this_process("pool"), lambda: {"jobs": {"trials/c": asdict(held())}}):
        found = status(root)
    assert ([one.id for one in found.running], found.abandoned) == (["trials/c"], ())


def test_a_damaged_sign_of_life_is_passed_over(root):
    leave(root)
    presence_file(root, "cut").write_text('{"token": ')
    presence_file(root, "odd").write_text('{"token": "odd", "jobs": []}')
    assert status(root).running == ()


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no study"):
        status(tmp_path)
