"""Jobs as tasks of a Ray cluster, on as many machines as it has; the study's folder is one that all of them see."""

import contextlib
import logging
import math
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qat.lab.jobs.events import Emit, Failed, Finished, JobEnd, JobRequest, Kind, Overtaken, from_json, to_json
from qat.lab.jobs.machine import GB
from qat.lab.jobs.programs import variables
from qat.lab.jobs.run_one import perform_logged
from qat.lab.jobs.runners.runner import RunnerFactory, register
from qat.lab.jobs.threads import asked

KNOCK = 5.0  # seconds in which a machine must accept a connection
COUNT_EVERY = 2.0  # seconds between two counts of the nodes
LAST_WORDS = 5.0  # seconds that cancelled tasks have to end
PROBE = "import sys, ray; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False)"


@dataclass(frozen=True)
class Needs:
    """The resources that one job needs of a node: amounts by Ray's names, `memory` in bytes."""

    amounts: Mapping[str, float]

    def options(self) -> dict[str, Any]:
        """Convert the resources to options of a Ray task."""
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        own = {name: amount for name, amount in self.amounts.items() if name not in names}
        known = {names[name]: amount for name, amount in self.amounts.items() if name in names}
        # Ray must not repeat a task by itself: retries are the scheduler's, which counts them and renews the claim.
        return {**known, "resources": own, "max_retries": 0}

    def fitting(self, node: Mapping[str, float]) -> int:
        """The number of such jobs that fit on a node at once."""
        return min(math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in self.amounts.items() if amount)


class Mailbox:
    """An actor that keeps what tasks say until it is fetched."""

    def __init__(self):
        self._news: list[dict[str, Any]] = []

    def put(self, news: dict[str, Any]) -> None:
        """Store an event."""
        self._news.append(news)

    def take(self) -> list[dict[str, Any]]:
        """Return the events that have come since the last call."""
        taken, self._news = self._news, []
        return taken


def work(request: dict[str, Any], mailbox: Any, path: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """One job in a worker of the cluster, which can import what the sweep can, and lives on to do further jobs."""
    sys.path += [place for place in path if place not in sys.path]
    for name, value in {**environment, **variables(int(environment["NPROC"]))}.items():
        os.environ.setdefault(name, value)
    return to_json(perform_logged(JobRequest(**request), lambda news: mailbox.put.remote(to_json(news))))


class OnRay:
    """Tasks of a cluster that this process is connected to; `ours` says that the connection ends with the runner."""

    def __init__(self, ray: Any, needs: Needs, in_flight: int | None, ours: bool, emit: Emit):
        self._ray, self._needs, self._emit, self._ours = ray, needs, emit, ours
        self._in_flight, self._counted, self._fitting = in_flight, -math.inf, 0
        self._requests: dict[Any, JobRequest] = {}
        amounts = needs.amounts
        self._environment = {"NPROC": str(asked() or max(1, math.floor(amounts["CPU"])))}
        if not any(amount for name, amount in amounts.items() if name not in ("CPU", "memory")):
            self._environment["JAX_PLATFORMS"] = "cpu"  # the devices of its node are not for such a job
        self._mailbox = _beside_us(ray)
        self._task = ray.remote(work).options(**needs.options())
        if in_flight is None and self._count() == 0:
            wanted = ", ".join(f"{amount:g} {name}" for name, amount in amounts.items() if amount)
            self.close()
            raise ValueError(f"no node of the Ray cluster has {wanted}. Ask for less per trial, or add such a node.")

    def room(self) -> int:
        """The number of further jobs that the present nodes can hold."""
        return (self._in_flight or max(1, self._count())) - len(self._requests)

    def start(self, request: JobRequest) -> None:
        """Submit the job."""
        ref = self._task.remote(asdict(request), self._mailbox, sys.path, self._environment)
        self._requests[ref] = request

    def wait(self, timeout: float) -> list[JobEnd]:
        """The jobs that ended; a node or process that was lost is a failure of what ran there."""
        self._fetch()
        if not self._requests:
            time.sleep(timeout)
            return []
        done, _ = self._ray.wait(list(self._requests), timeout=timeout)
        if done:
            # The first wait returns one that is done; this one all that are by now. Then the mailbox once more, so
            # that what a task said comes before its end.
            done, _ = self._ray.wait(list(self._requests), num_returns=len(self._requests), timeout=0)
            self._fetch()
        return [self._end(ref) for ref in done]

    def close(self) -> None:
        """Cancel what runs, and leave the cluster as it was."""
        for ref in self._requests:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(ref, force=True)
        if self._requests:
            self._ray.wait(list(self._requests), num_returns=len(self._requests), timeout=LAST_WORDS)
        self._ray.kill(self._mailbox)
        if self._ours:
            self._ray.shutdown()

    def _end(self, ref: Any) -> JobEnd:
        request = self._requests.pop(ref)
        try:
            end = from_json(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            return Failed(request.job, self._kind(error), " ".join(str(error).split())[:500], str(error))
        assert isinstance(end, (Finished, Failed, Overtaken))
        return end

    def _kind(self, error: Exception) -> Kind:
        exceptions = self._ray.exceptions
        if isinstance(error, exceptions.OutOfMemoryError):
            return "memory"
        return "error" if isinstance(error, exceptions.RayTaskError) else "killed"

    def _fetch(self) -> None:
        """Pass on what tasks said; where the mailbox is lost, progress is not shown and all else goes on."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            for news in self._ray.get(self._mailbox.take.remote(), timeout=KNOCK):
                event = from_json(news)
                if not isinstance(event, (Finished, Failed, Overtaken)):
                    self._emit(event)

    def _count(self) -> int:
        if time.monotonic() - self._counted >= COUNT_EVERY:
            self._counted = time.monotonic()
            self._fitting = sum(self._needs.fitting(node["Resources"]) for node in self._ray.nodes() if node["Alive"])
        return self._fitting


@register
def ray(
    address: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    memory_gb: float | None = None,
    resources: Mapping[str, float] | None = None,
    in_flight: int | None = None,
    connect_within: float = 30.0,
) -> RunnerFactory:
    """A Ray cluster: the one at `address`, else that of the environment variable `RAY_ADDRESS`, else one of this
    machine's own. Each job gets what is named of a node, `resources` being Ray's own kinds.

    qat must be installed on all machines. At most as many jobs are submitted as the nodes can hold, or `in_flight`, for
    clusters that grow on demand. Raises `ValueError` where Ray is not installed, or does not answer `connect_within`
    seconds.
    """
    if cpus_per_trial <= 0 or gpus_per_trial < 0:
        got = f"{cpus_per_trial} and {gpus_per_trial}"
        raise ValueError(f"`cpus_per_trial` must be positive and `gpus_per_trial` not negative, got {got}.")
    amounts = {"CPU": cpus_per_trial, "GPU": gpus_per_trial, **(resources or {})}
    needs = Needs(amounts if memory_gb is None else {**amounts, "memory": memory_gb * GB})

    def factory(emit: Emit) -> OnRay:
        client, ours = _connect(address or os.environ.get("RAY_ADDRESS"), connect_within)
        return OnRay(client, needs, in_flight, ours, emit)

    return factory


def _beside_us(ray: Any) -> Any:
    """A mailbox on the node that this process is connected to, which no other node can take with it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


def _connect(address: str | None, within: float) -> tuple[Any, bool]:
    """Ray, connected, and whether it was not before."""
    try:
        import ray as client
    except ModuleNotFoundError:
        raise ValueError("the runner ray needs Ray, which is not installed: pip install 'jax-qat[ray]'") from None
    if client.is_initialized():
        here = client.get_runtime_context().gcs_address
        if address not in (None, here):
            raise ValueError(
                f"`address` is {address!r}, but this process is connected to {here!r} already. Leave it out."
            )
        return client, False
    own = address in (None, "local")
    if not own:
        assert address is not None
        _check_answers(address, within)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what Ray will do about devices that are not asked for
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)  # it starts its own programs so
        options: dict[str, Any] = {"include_dashboard": False} if own else {}
        client.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **options)
    return client, True


def _check_answers(address: str, within: float) -> None:
    """Raise `ValueError` where there is no Ray at the address. Ray itself waits for minutes, then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host:
            socket.create_connection((host, int(port)), timeout=min(KNOCK, within)).close()
        command = [sys.executable, "-c", PROBE, address]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=within)
    except subprocess.TimeoutExpired:
        why = f"no answer within {within:g} s"
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip().rpartition("\n")[2]
    except (OSError, ValueError) as error:
        why = str(error)
    else:
        return
    raise ValueError(
        f"`address` must be that of a Ray cluster that answers, got {address!r} ({why}). Start Ray there with "
        "`ray start --head`, run this on a machine of the cluster, or leave `address` out to use this machine alone."
    )
