"""Jobs submitted to a SLURM cluster, each as a job of its own; the study's folder is on a disk that all nodes see."""

import contextlib
import itertools
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qat.fileio import write_atomically
from qat.lab.jobs.events import (
    Emit,
    Event,
    Failed,
    Finished,
    JobEnd,
    JobRequest,
    Kind,
    Overtaken,
    Started,
    from_json,
    to_json,
)
from qat.lab.jobs.programs import variables
from qat.lab.jobs.run_one import perform_logged
from qat.lab.jobs.runners.runner import RunnerFactory, register
from qat.lab.jobs.threads import asked

FOLDER = "claims/slurm"
WRITE_EVERY = 2.0  # seconds between two signs of progress that a job writes
LOOK_EVERY = 1.0  # seconds between two looks for them


@dataclass
class Submitted:
    """A job that was handed to the cluster, the file in which it says how it goes, and what that said last."""

    request: JobRequest
    job: Any
    file: Path
    read: str = ""


def work(request: dict[str, Any], file: str, path: list[str], environment: dict[str, str]) -> None:
    """One job on a node of the cluster, which can import what the sweep can."""
    sys.path += [place for place in path if place not in sys.path]
    for name, value in {**environment, **variables(int(environment["NPROC"]))}.items():
        os.environ.setdefault(name, value)
    said: dict[str, dict[str, Any]] = {}
    written = 0.0

    def emit(news: Event) -> None:
        nonlocal written
        # The file holds the newest event of each kind and not a history: replaced as a whole, it is read at any
        # moment.
        said["started" if isinstance(news, Started) else "progress"] = to_json(news)
        if isinstance(news, Started) or time.monotonic() - written >= WRITE_EVERY:
            written = time.monotonic()
            write_atomically(Path(file), json.dumps(said))

    # Written whatever the interval, and last: nothing of this job is written after its end.
    said["end"] = to_json(perform_logged(JobRequest(**request), emit))
    write_atomically(Path(file), json.dumps(said))


class OnSlurm:
    """Jobs of a cluster; `executor(folder)` gives what submits them, which keeps its files in that folder."""

    def __init__(self, executor: Any, place: str | None, in_flight: int, cpus: int, emit: Emit):
        self._make, self._place, self._in_flight, self._emit = executor, place, in_flight, emit
        self._environment = {"NPROC": str(asked() or cpus)}
        self._executor: Any = None
        self._token, self._numbers = secrets.token_hex(4), itertools.count(1)
        self._submitted: list[Submitted] = []

    def room(self) -> int:
        """The number of further jobs to submit, so that at most `in_flight` are at the cluster."""
        return self._in_flight - len(self._submitted)

    def start(self, request: JobRequest) -> None:
        """Submit the job."""
        place = Path(self._place or Path(request.root) / FOLDER)
        place.mkdir(parents=True, exist_ok=True)
        self._executor = self._executor or self._make(place)
        file = place / f"{self._token}-{next(self._numbers)}.json"
        job = self._executor.submit(work, asdict(request), str(file), sys.path, self._environment)
        self._submitted.append(Submitted(request, job, file))

    def wait(self, timeout: float) -> list[JobEnd]:
        """The jobs that ended, as far as their files or the cluster say so."""
        until = time.monotonic() + timeout
        # Invariant: no submitted job had ended when it was looked at last.
        while True:
            ends = [end for one in list(self._submitted) if (end := self._look(one)) is not None]
            left = until - time.monotonic()
            if ends or left <= 0:
                return ends
            time.sleep(min(left, LOOK_EVERY))

    def close(self) -> None:
        """Cancel what waits or runs."""
        for one in self._submitted:
            with contextlib.suppress(OSError):
                one.job.cancel(check=False)
                one.file.unlink(missing_ok=True)

    def _look(self, one: Submitted) -> JobEnd | None:
        over = one.job.done()  # before the file, which is complete by then
        end = self._read(one)
        # The cluster says that it is over: the file is read once more, as the end may have been written between the
        # two looks.
        if end is None and over:
            end = self._read(one) or _lost(one)
        if end is not None:
            self._submitted.remove(one)
            one.file.unlink(missing_ok=True)
        return end

    def _read(self, one: Submitted) -> JobEnd | None:
        try:
            text = one.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        # Only what changed is passed on, so that one report is not told at every look.
        if text == one.read:
            return None
        one.read, before = text, json.loads(one.read or "{}")
        events = {name: from_json(news) for name, news in json.loads(text).items() if news != before.get(name)}
        end = events.pop("end", None)
        for event in events.values():
            assert not isinstance(event, (Finished, Failed, Overtaken))
            self._emit(event)
        assert end is None or isinstance(end, (Finished, Failed, Overtaken))
        return end


def _lost(one: Submitted) -> Failed:
    """A job that ended without a word."""
    state = str(one.job.state)
    kind: Kind = "memory" if "MEMORY" in state.upper() else "killed"
    words = " ".join((one.job.stderr() or "").split())[-300:]
    what = f"job {one.job.job_id} of the cluster ended ({state}) before its work did"
    return Failed(one.request.job, kind, what + (words and f": {words}"))


@register
def slurm(
    partition: str | None = None,
    minutes: int = 60,
    cpus: int = 1,
    gpus: int = 0,
    memory_gb: float | None = None,
    in_flight: int = 100,
    folder: str | None = None,
    options: Mapping[str, Any] | None = None,
    cluster: str = "slurm",
) -> RunnerFactory:
    """A SLURM cluster, asked by submitit: `minutes`, `cpus`, `gpus` and `memory_gb` for each job, of which at most
    `in_flight` are submitted at a time.

    `options` are further ones of submitit, such as `{'slurm_account': 'vision'}`; its files are in `folder`, by default
    beside the study's. `cluster` may be `local`, to try all this without one. Raises `ValueError` where submitit is not
    installed, finds no SLURM, or knows no such option.
    """
    if min(minutes, cpus, in_flight) <= 0 or gpus < 0:
        raise ValueError("`minutes`, `cpus` and `in_flight` of the runner slurm must be positive, `gpus` not negative.")
    wanted = {"timeout_min": minutes, "cpus_per_task": cpus, "gpus_per_node": gpus, "name": "qat"}
    given = {"mem_gb": memory_gb, "slurm_partition": partition}
    parameters = {**wanted, **{name: value for name, value in given.items() if value is not None}, **(options or {})}

    def executor(place: Path) -> Any:
        import submitit

        try:
            made = submitit.AutoExecutor(folder=place, cluster=cluster)
            made.update_parameters(**parameters)
        except (RuntimeError, NameError) as error:
            raise ValueError(f"the runner slurm cannot submit jobs here: {error}") from error
        return made

    def factory(emit: Emit) -> OnSlurm:
        try:
            import submitit  # noqa: F401
        except ModuleNotFoundError:
            raise ValueError(
                "the runner slurm needs submitit, which is not installed: pip install 'jax-qat[slurm]'"
            ) from None
        return OnSlurm(executor, folder, in_flight, cpus, emit)

    return factory
