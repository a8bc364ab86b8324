"""Jobs submitted by submitit, here to this machine; what a cluster loses costs its job a try."""

import sys

import pytest
from studies import QUIET
from work import WORK, attempts, finished_in, job

from qat.lab.jobs.events import JobRequest, Progress, Started
from qat.lab.jobs.execute import execute
from qat.lab.jobs.runners import runners
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import load_study

pytest.importorskip("submitit", reason="the runner slurm needs jax-qat[slurm]")
pytestmark = [
    # submitit's executor on this machine does not wait for the processes that it started.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOCAL = "slurm(cluster='local')"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One sweep of jobs that need one another, run side by side, and go wrong."""
    root = tmp_path_factory.mktemp("mixed")
    jobs = [
        job("a", "wait", until="b.waits"),
        job("b", "wait", until="a.waits"),
        job("c", needs=["a"], finds=["a"]),
        job("dies", "kill"),
        job("raises-once", "raise", times=1),
    ]
    outcome = execute(jobs, root, LOCAL, is_finished=finished_in(root), work=WORK, settle=0.0)
    return root, outcome


def test_jobs_run_side_by_side_and_after_what_they_need(mixed):
    root, outcome = mixed
    assert [one.id for one in outcome.finished] == ["a", "b", "c", "raises-once"]
    assert "printed by a, attempt 1" in (root / "a" / "log.txt").read_text()


def test_a_job_that_dies_costs_itself_alone(mixed):
    root, outcome = mixed
    assert {name: failure.kind for name, failure in outcome.failed.items()} == {"dies": "killed"}
    assert "ended (FINISHED) before its work did" in outcome.failed["dies"].error
    assert attempts(root).count("dies") == 2


def test_nothing_of_how_jobs_went_stays_behind(mixed):
    root, _ = mixed
    assert list((root / "claims" / "slurm").glob("*.json")) == []


def test_progress_is_told(tmp_path):
    told, ends = [], []
    opened = runners.build(LOCAL)(told.append)
    payload = job("a", "progress", steps=3).payload
    opened.start(JobRequest(str(tmp_path), WORK, "a", payload, str(tmp_path / "fence")))
    while not ends:
        ends = opened.wait(0.1)
    opened.close()
    assert isinstance(told[0], Started)
    assert told[-1] == Progress("a", "counting", 3, 3, 0.25)


def test_an_unknown_option_is_refused_with_the_known_ones(tmp_path):
    runner = "slurm(cluster='local', options={'timout_min': 1})"
    with pytest.raises(ValueError, match=r"cannot submit jobs here.*timout_min"):
        execute([job("a")], tmp_path, runner, is_finished=finished_in(tmp_path), work=WORK)


def test_without_submitit_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"pip install 'jax-qat\[slurm\]'"):
        runners.build("slurm")(lambda _: None)


@pytest.mark.parametrize("text", ["slurm(minutes=0)", "slurm(gpus=-1)", "slurm(in_flight=0)"])
def test_jobs_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="must be positive"):
        runners.build(text)


@pytest.mark.slow
def test_what_a_users_file_registers_is_known_where_its_jobs_run(own, tmp_path):
    root = tmp_path / "runs"
    study = load_study(own, {"arm": "ptq"})
    outcome = run_study(study, root, runner=LOCAL, send=["my_sink"], retries=0, console=QUIET)
    assert [one.kind for one in outcome.finished] == ["float", "calibration", "trial"], outcome.summary(root)
    assert (root / "told.txt").read_text() == f"{study.trials[0].id}\n"
