"""Jobs on a real Ray cluster of two nodes, both on this machine; a node that is lost costs its jobs a retry."""

import logging
import socket
import sys
import threading

import psutil
import pytest
from rich.console import Console
from studies import QUIET
from work import WORK, attempts, finished_in, is_gone, job, pids, wait_for

from qat.lab.jobs.display import Lines
from qat.lab.jobs.execute import execute
from qat.lab.jobs.runners import runners
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import load_study

NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}

pytestmark = [
    # What Ray 2.60 does inside: it announces a change that concerns devices, and leaves files to the collector.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # It starts its programs by forking, of which jax warns where an earlier test has used it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each; they end with the tests, as does this process's connection."""
    pytest.importorskip("ray", reason="the runner ray needs jax-qat[ray]")
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args=NODE)
    nodes.add_node(**NODE)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def connected(cluster):
    """A connection that several sweeps share, as in a notebook: the runner leaves it open."""
    import ray

    if not ray.is_initialized():
        ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    return cluster


def sweep(jobs, root, runner="ray", **rules):
    return execute(jobs, root, runner, is_finished=finished_in(root), work=WORK, settle=0.0, **rules)


def ids(jobs):
    return [one.id for one in jobs]


def test_jobs_run_on_both_nodes_at_once(cluster, tmp_path):
    jobs = [job("a", "where", until="b.waits"), job("b", "where", until="a.waits"), job("c", needs=["a"], finds=["a"])]
    outcome = sweep(jobs, tmp_path, f"ray(address='{cluster.address}')")
    assert ids(outcome.finished) == ["a", "b", "c"]
    nodes = {(tmp_path / f"{name}.node").read_text() for name in ("a", "b")}
    assert len(nodes) == 2
    assert "printed by a, attempt 1" in (tmp_path / "a" / "log.txt").read_text()


def test_a_task_that_dies_or_raises_costs_its_job_alone(connected, tmp_path):
    jobs = [job("dies", "kill"), job("raises-once", "raise", times=1), job("good"), job("falls", needs=["dies"])]
    outcome = sweep(jobs, tmp_path)
    assert ids(outcome.finished) == ["raises-once", "good"]
    assert {name: failure.kind for name, failure in outcome.failed.items()} == {"dies": "killed", "falls": "dependency"}
    assert attempts(tmp_path).count("dies") == attempts(tmp_path).count("raises-once") == 2


def test_a_node_that_is_lost_costs_its_jobs_a_retry(connected, tmp_path):
    lost = connected.add_node(**NODE)
    raylet = lost.all_processes["raylet"][0].process.pid
    jobs, found = [job(name, "wait", until="go") for name in ("a", "b", "c")], []
    thread = threading.Thread(target=lambda: found.append(sweep(jobs, tmp_path)))
    thread.start()
    wait_for(lambda: all((tmp_path / f"{one.id}.waits").exists() for one in jobs), "jobs on all three nodes")
    [there] = [pid for pid in pids(tmp_path) if psutil.Process(pid).ppid() == raylet]
    connected.remove_node(lost, allow_graceful=False)
    wait_for(lambda: is_gone(there), "the end of what ran on the node")
    (tmp_path / "go").touch()
    thread.join(60)
    assert ids(found[0].finished) == ["a", "b", "c"]
    assert len(attempts(tmp_path)) == 4


def test_an_interrupted_sweep_cancels_what_runs_on_the_cluster(connected, tmp_path):
    class Interrupts(Lines):
        def running(self, job, running):
            if (tmp_path / "a.waits").exists():
                raise KeyboardInterrupt

    view = Interrupts(Console(quiet=True), lambda one: one.label)
    b = job("b", "wait", until="a.waits")
    jobs = [job("a", "wait", until="never"), b, job("c", needs=["b"])]  # once "c" begins, "a" has begun
    with pytest.raises(KeyboardInterrupt):
        sweep(jobs, tmp_path, view=view)
    waiting = dict(zip(attempts(tmp_path), pids(tmp_path), strict=True))["a"]
    wait_for(lambda: is_gone(waiting), "the end of the task")


def test_what_no_node_has_is_said_before_any_work(connected, tmp_path):
    with pytest.raises(ValueError, match="no node of the Ray cluster has 1 CPU, 3 GPU"):
        sweep([job("a")], tmp_path, "ray(gpus_per_trial=3)")
    assert attempts(tmp_path) == []


def test_another_address_than_the_one_connected_to_is_refused(connected, tmp_path):
    with pytest.raises(ValueError, match=rf"connected to '{connected.address}' already"):
        sweep([job("a")], tmp_path, "ray(address='127.0.0.1:1')")


def test_an_address_that_does_not_answer_is_a_clear_error(tmp_path):
    ray = pytest.importorskip("ray", reason="the runner ray needs jax-qat[ray]")
    ray.shutdown()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ValueError, match=rf"`address` must .* 'ray://127.0.0.1:{port}' .*ray start --head"):
            sweep([job("a")], tmp_path, f"ray(address='ray://127.0.0.1:{port}', connect_within=0.5)")
    with pytest.raises(ValueError, match="Connection refused"):
        sweep([job("a")], tmp_path, f"ray(address='127.0.0.1:{port}')")
    assert attempts(tmp_path) == []


def test_without_ray_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'jax-qat\[ray\]'"):
        runners.build("ray")(lambda _: None)


@pytest.mark.parametrize("text", ["ray(cpus_per_trial=0)", "ray(gpus_per_trial=-1)"])
def test_resources_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError, match="must be positive"):
        runners.build(text)


@pytest.mark.slow
def test_what_a_users_file_registers_is_known_where_its_jobs_run(connected, own, tmp_path):
    root = tmp_path / "runs"
    study = load_study(own, {"arm": "ptq"})
    outcome = run_study(study, root, runner="ray", send=["my_sink"], retries=0, console=QUIET)
    assert [one.kind for one in outcome.finished] == ["float", "calibration", "trial"], outcome.summary(root)
    assert (root / "told.txt").read_text() == f"{study.trials[0].id}\n"
