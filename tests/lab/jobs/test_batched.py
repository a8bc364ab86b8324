"""Jobs that run in turns in one process and ask for things together."""

import threading

import asking
import pytest
from asking import WORK
from work import WORK as ALONE
from work import finished_in, job

from qat.lab.jobs.events import Note, Progress
from qat.lab.jobs.execute import execute
from qat.lab.jobs.leases import last_claim
from qat.lab.jobs.runners import RunnerFactory, runners
from qat.lab.jobs.turns import Stopped, in_turns


@pytest.fixture(autouse=True)
def groups(monkeypatch):
    found: list[list[int]] = []
    monkeypatch.setattr(asking, "GROUPS", found)
    return found


def sweep(jobs, root, runner: str | RunnerFactory = "batched(size=4)", work=WORK, **rules):
    return execute(jobs, root, runner, is_finished=finished_in(root), work=work, settle=0.0, **rules)


def test_functions_run_one_at_a_time_and_their_requests_are_answered_together():
    busy = threading.Lock()

    def count(share, number: int) -> list[int]:
        assert busy.acquire(blocking=False)
        found = []
        for asked in range(number):
            busy.release()
            found.append(share((number, asked)))
            assert busy.acquire(blocking=False)
        busy.release()
        return found

    asked: list[list[tuple[int, int]]] = []

    def answer(requests):
        asked.append(list(requests))
        return [10 * a + b for a, b in requests]

    functions = [lambda share, n=n: count(share, n) for n in (2, 0, 3)]
    assert in_turns(functions, answer) == [[20, 21], [], [30, 31, 32]]
    assert asked == [[(2, 0), (3, 0)], [(2, 1), (3, 1)], [(3, 2)]]


def test_an_interrupt_ends_every_function_before_it_leaves():
    ended: list[str] = []

    def asks(share) -> None:
        try:
            share(1)
        except Stopped:
            ended.append("asks")
            raise

    def answer(requests):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_turns([asks, asks], answer)
    assert ended == ["asks", "asks"]
    assert not [thread for thread in threading.enumerate() if thread.name == "turn"]


def test_an_answer_that_is_an_error_costs_its_job_alone(tmp_path, groups):
    jobs = [job("a", adds=[1, 2]), job("b", adds=[-1]), job("c", adds=[3]), job("d", "raise"), job("e", adds=[5])]
    outcome = sweep(jobs, tmp_path, retries=0)
    assert groups == [[1, -1, 3], [2], [5]]
    assert [one.id for one in outcome.finished] == ["a", "c", "e"]
    assert outcome.failed["b"].error.startswith("below zero (")
    assert "ArithmeticError" in outcome.failed["d"].error
    assert "ArithmeticError" in (tmp_path / "d" / "log.txt").read_text()


def test_an_interrupt_gives_all_jobs_back(tmp_path):
    jobs = [job("a", adds=[1]), job("b", adds=[101])]
    with pytest.raises(KeyboardInterrupt):
        sweep(jobs, tmp_path)
    claims = [last_claim(tmp_path, name) for name in ("a", "b")]
    assert [claim and claim.outcome for claim in claims] == ["given back", "given back"]
    assert not list(tmp_path.glob("*/done.json"))


def test_progress_is_that_of_each_job_and_a_note_is_told_once(tmp_path):
    told = []

    def factory(emit):
        def both(event):
            told.append(event)
            emit(event)

        return runners.build("batched(size=2, how='vmap', chunk=7)")(both)

    sweep([job("a", adds=[1]), job("b", adds=[2]), job("c", adds=[4])], tmp_path, factory)
    losses = {event.job: event.loss for event in told if isinstance(event, Progress)}
    assert losses == {"a": 3.0, "b": 3.0, "c": 4.0}
    assert [event.text for event in told if isinstance(event, Note)] == ["vmap of chunks of 7."]


def test_work_that_cannot_share_runs_singly_and_says_so(tmp_path):
    told = []
    outcome = sweep([job("a"), job("b", "raise")], tmp_path, lambda emit: runners.build("batched")(told.append), ALONE)
    assert [one.id for one in outcome.finished] == ["a"]
    assert list(outcome.failed) == ["b"]
    assert [event.text for event in told if isinstance(event, Note)] == [
        "'work:run' says nothing of what its jobs have in common, so each runs alone."
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("batched(how='vmp')", "`how` of the runner batched must be one of map, vmap, got 'vmp'. Did you mean 'vmap'?"),
        ("batched(size=0)", "`size` of the runner batched must be positive, got 0"),
        ("batched(chunk=-1)", "`chunk` of the runner batched must be positive"),
        ("batched(memory_gb=0)", "`memory_gb` of the runner batched must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text, problem):
    with pytest.raises(ValueError, match=problem.replace("?", r"\?")):
        runners.build(text)
