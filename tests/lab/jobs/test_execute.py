"""A graph of jobs runs to its end whatever its jobs do; each runs once, and only what must fails."""

import json
import re
import threading

import pytest
from work import WORK, attempts, finished_in, job, wait_for

from qat.lab.jobs.events import Failed, JobRequest
from qat.lab.jobs.execute import execute
from qat.lab.jobs.job import Job
from qat.lab.jobs.leases import last_claim, release, take
from qat.lab.jobs.log import Failure, read_failure, write_failure
from qat.lab.jobs.presence import present, this_process
from qat.lab.jobs.run_one import perform_logged


def sweep(jobs, root, runner="inprocess", **rules):
    """Run fake jobs; a result is seen at once or not at all."""
    return execute(jobs, root, runner, is_finished=finished_in(root), work=WORK, settle=0.0, **rules)


def ids(jobs):
    return [one.id for one in jobs]


def test_every_job_runs_once_and_after_what_it_needs(tmp_path):
    jobs = [
        job("stages/float", kind="float"),
        job("stages/calibration", kind="calibration", needs=["stages/float"], finds=["stages/float"]),
        job("trials/a", needs=["stages/float"], finds=["stages/float"]),
        job("trials/b", needs=["stages/calibration"], finds=["stages/calibration"]),
    ]
    outcome = sweep(jobs, tmp_path)
    assert ids(outcome.finished) == ids(jobs)
    assert sorted(attempts(tmp_path)) == sorted(ids(jobs))
    assert outcome.failed == {}
    assert outcome.summary(tmp_path) == ""


def test_finished_jobs_are_not_done_again(tmp_path):
    jobs = [job("a"), job("b", needs=["a"])]
    sweep(jobs, tmp_path)
    again = sweep([*jobs, job("c", needs=["b"])], tmp_path)
    assert (ids(again.before), ids(again.finished)) == (["a", "b"], ["c"])
    assert attempts(tmp_path) == ["a", "b", "c"]


def test_a_stage_that_only_finished_jobs_need_is_not_made_again(tmp_path):
    jobs = [job("stage", kind="float"), job("trial", needs=["stage"])]
    sweep(jobs, tmp_path)
    (tmp_path / "stage" / "done.json").unlink()
    assert ids(sweep(jobs, tmp_path).finished) == []
    assert ids(sweep([*jobs, job("other", needs=["stage"])], tmp_path).finished) == ["stage", "other"]


def test_a_failed_job_is_tried_again_and_leaves_no_trace_once_done(tmp_path):
    write_failure(tmp_path / "a", Failure("of an earlier sweep", "", 1, "error"))
    outcome = sweep([job("a", "raise", times=1)], tmp_path)
    assert ids(outcome.finished) == ["a"]
    assert attempts(tmp_path) == ["a", "a"]
    assert read_failure(tmp_path / "a") is None


@pytest.mark.parametrize("retries", [0, 2])
def test_a_job_that_keeps_failing_is_marked_with_its_error(tmp_path, retries):
    outcome = sweep([job("a", "raise"), job("b")], tmp_path, retries=retries)
    failure = read_failure(tmp_path / "a")
    assert outcome.failed == {"a": failure}
    assert failure is not None
    assert failure.kind == "error"
    assert failure.error.startswith("ArithmeticError: no such number (")
    assert re.search(r"work\.py', line \d+: `raise ArithmeticError", failure.error)
    assert failure.attempts == attempts(tmp_path).count("a") == retries + 1
    assert 'raise ArithmeticError("no such' in failure.traceback
    assert "ArithmeticError" in (tmp_path / "a" / failure.log).read_text()
    assert ids(outcome.finished) == ["b"]


def test_only_what_depends_on_a_failed_job_fails_with_it(tmp_path):
    jobs = [
        job("bad", "raise"),
        job("good"),
        job("child", needs=["bad", "good"]),
        job("grandchild", needs=["child"]),
        job("other", needs=["good"]),
    ]
    outcome = sweep(jobs, tmp_path)
    assert ids(outcome.finished) == ["good", "other"]
    assert {name: failure.kind for name, failure in outcome.failed.items()} == {
        "bad": "error",
        "child": "dependency",
        "grandchild": "dependency",
    }
    fallen = read_failure(tmp_path / "grandchild")
    assert fallen is not None
    assert "'label of bad' failed" in fallen.error
    assert "no such number" in fallen.error
    summary = outcome.summary(tmp_path)
    assert "3 failed" in summary
    assert "bad: ArithmeticError: no such number" in summary
    assert str(tmp_path / "bad" / "log.txt") in summary
    assert "2 that need" in summary


def test_what_fell_with_another_job_runs_once_that_succeeds(tmp_path):
    sweep([job("a", "raise"), job("b", needs=["a"])], tmp_path)
    outcome = sweep([job("a"), job("b", needs=["a"])], tmp_path)
    assert ids(outcome.finished) == ["a", "b"]
    assert read_failure(tmp_path / "b") is None


def test_a_job_that_leaves_no_result_has_failed(tmp_path):
    outcome = sweep([job("a", "leave nothing")], tmp_path, retries=0)
    assert "left no result" in outcome.failed["a"].error


def test_ending_the_process_is_a_failure_of_the_job_alone(tmp_path):
    outcome = sweep([job("a", "sys.exit"), job("b")], tmp_path, retries=0)
    assert "exit code 4" in outcome.failed["a"].error
    assert ids(outcome.finished) == ["b"]


def test_a_full_disk_stops_the_sweep_at_once_and_keeps_what_is_finished(tmp_path):
    with pytest.raises(OSError, match=r"No space left on the disk.*run the same command again"):
        sweep([job("a"), job("b", "refuse"), job("c")], tmp_path)
    assert attempts(tmp_path) == ["a", "b"]
    assert ids(sweep([job("a"), job("b"), job("c")], tmp_path).finished) == ["b", "c"]


def test_a_disk_that_refuses_claims_says_so(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "claims")

    monkeypatch.setattr("qat.lab.jobs.schedule.take", refuse)
    with pytest.raises(OSError, match="No permission for 'claims'"):
        sweep([job("a")], tmp_path)


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([job("a"), job("a")], "ids of their own"),
        ([job("a", needs=["b"]), job("b")], "'a' needs 'b'"),
        ([job("a", needs=["gone"])], "'a' needs 'gone'"),
    ],
    ids=["twice", "disorder", "unknown"],
)
def test_a_graph_that_cannot_run_is_refused(tmp_path, jobs, message):
    with pytest.raises(ValueError, match=message):
        sweep(jobs, tmp_path)


def test_an_unknown_runner_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown runner 'pol'.*Did you mean 'pool'"):
        sweep([job("a")], tmp_path, "pol(workers=2)")


def test_an_unknown_work_function_is_a_clear_failure(tmp_path):
    outcome = execute([job("a")], tmp_path, "inprocess", is_finished=lambda _: False, work="work:sleep", retries=0)
    assert "'module:function', got 'work:sleep'" in outcome.failed["a"].error


def test_a_folder_that_machines_do_not_share_is_a_clear_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("qat.lab.jobs.run_one.SEEN_WITHIN", 0.0)
    request = JobRequest(
        str(tmp_path / "runs"), WORK, "a", job("a").payload, str(tmp_path / "runs/claims/jobs/a/2.json")
    )
    end = perform_logged(request, lambda _: None)
    assert isinstance(end, Failed)
    assert "must be a folder that all machines share" in end.error
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_gives_back_what_is_held(tmp_path):
    def interrupt(one: Job) -> bool:
        if attempts(tmp_path):
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        execute([job("a")], tmp_path, "inprocess", is_finished=interrupt, work=WORK)
    claim = last_claim(tmp_path, "a")
    assert claim is not None and claim.outcome == "given back"
    assert list((tmp_path / "claims/runners").iterdir()) == []


def test_a_job_that_another_holds_is_waited_for_while_the_rest_is_done(tmp_path):
    other = this_process("test")
    jobs = [job("a"), job("b"), job("c", needs=["a"])]
    found = []
    with present(tmp_path, other, dict):
        claim = take(tmp_path, "a", other)
        thread = threading.Thread(target=lambda: found.append(sweep(jobs, tmp_path)))
        thread.start()
        wait_for((tmp_path / "b" / "done.json").exists, "the job that is free")
        assert attempts(tmp_path) == ["b"]
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "done.json").write_text("{}")
        release(tmp_path, claim, "finished")
        thread.join(60)
    assert (ids(found[0].elsewhere), ids(found[0].finished)) == (["a"], ["b", "c"])


def test_a_job_that_is_given_back_elsewhere_is_taken_over(tmp_path):
    other = this_process("test")
    found = []
    with present(tmp_path, other, dict):
        claim = take(tmp_path, "a", other)
        thread = threading.Thread(target=lambda: found.append(sweep([job("a"), job("b")], tmp_path)))
        thread.start()
        wait_for((tmp_path / "b" / "done.json").exists, "the job that is free")
        release(tmp_path, claim, "given back")
        thread.join(60)
    assert ids(found[0].finished) == ["a", "b"]


def test_a_job_that_failed_elsewhere_meanwhile_is_not_tried_once_more(tmp_path):
    other = this_process("test")
    jobs, found = [job("a"), job("b"), job("c", needs=["a"])], []
    with present(tmp_path, other, dict):
        claim = take(tmp_path, "a", other)
        thread = threading.Thread(target=lambda: found.append(sweep(jobs, tmp_path)))
        thread.start()
        wait_for((tmp_path / "b" / "done.json").exists, "the job that is free")
        write_failure(tmp_path / "a", Failure("elsewhere", "", 2, "killed"))
        release(tmp_path, claim, "failed")
        thread.join(60)
    assert found[0].failed["a"] == Failure("elsewhere", "", 2, "killed")
    assert found[0].failed["c"].kind == "dependency"
    assert attempts(tmp_path) == ["b"]


def test_a_job_that_was_taken_over_is_left_to_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr("qat.lab.jobs.run_one.LOOK_EVERY", 0.0)
    other, found = this_process("test"), []
    thread = threading.Thread(target=lambda: found.append(sweep([job("a", "report late", until="go")], tmp_path)))
    thread.start()
    wait_for((tmp_path / "a.waits").exists, "the start of the job")
    with present(tmp_path, other, dict):
        stolen = {"holder": vars(other), "outcome": None}
        (tmp_path / "claims/jobs/a/2.json").write_text(json.dumps(stolen))
        (tmp_path / "go").touch()
        (tmp_path / "a" / "done.json").write_text("by the other")
        thread.join(60)
    assert ids(found[0].elsewhere) == ["a"]
    assert (tmp_path / "a" / "done.json").read_text() == "by the other"
