"""Jobs in worker processes on this machine, which live on between jobs; one that goes wrong costs its job alone."""

import contextlib
import queue
import time
from dataclasses import dataclass
from pathlib import Path

from qat.lab.jobs.events import (
    Compiling,
    Emit,
    Event,
    Failed,
    Finished,
    JobEnd,
    JobRequest,
    Kind,
    Note,
    Overtaken,
    Started,
)
from qat.lab.jobs.log import append_log
from qat.lab.jobs.machine import GB, Slot, available_memory, resident_memory, slots
from qat.lab.jobs.process import Heard, Worker, spawn
from qat.lab.jobs.runners.runner import RunnerFactory, register

WATCH_EVERY = 0.5  # seconds between two looks at memory and silence
START_WITHIN = 300.0  # seconds in which a worker must have begun its job, where silence is watched
LAST_ANSWERS = 2.0  # seconds that the answers of a worker that is gone may take to arrive
LEAST_FREE = 1 * GB  # memory that must be available to start another job, where no share is given


@dataclass(frozen=True)
class Limits:
    """`memory` bytes of one worker and what it started, and seconds of silence, each None for no bound."""

    memory: float | None
    silence: float | None


class Pool:
    """At most one worker in each slot; `_sizes` are their bytes in memory when last looked at."""

    def __init__(self, places: list[Slot], limits: Limits, emit: Emit):
        self._places, self._limits, self._emit = places, limits, emit
        self._workers: dict[int, Worker] = {}
        self._heard: queue.Queue[Heard] = queue.Queue()
        self._sizes: dict[int, float] = {}
        self._available, self._watched = available_memory(), time.monotonic()
        self._said_low = False

    def room(self) -> int:
        """Free slots, as far as memory goes; always one where nothing runs."""
        busy = self._busy()
        free = len(self._places) - len(busy)
        need = self._limits.memory or LEAST_FREE
        # Memory that running jobs may still take is promised to them: what is available now is not free for others.
        promised = sum(max(0.0, need - self._sizes.get(worker.slot, 0.0)) for worker in busy)
        # One job always runs, or a machine with too little memory would wait for ever.
        fitting = max(0 if busy else 1, int((self._available - promised) // need))
        self._say_low(free > 0 and fitting == 0, need)
        return min(free, fitting)

    def start(self, request: JobRequest) -> None:
        """Give the job to an idle worker, or to a new one."""
        idle = [worker for worker in self._workers.values() if worker.request is None]
        # Invariant: every worker before this one was found dead and has left its slot.
        for worker in idle:
            if not worker.is_gone():
                worker.give(request)
                return
            self._remove(worker)
        number = next(number for number in range(len(self._places)) if number not in self._workers)
        self._workers[number] = spawn(number, self._places[number], self._heard)
        self._workers[number].give(request)

    def wait(self, timeout: float) -> list[JobEnd]:
        """The jobs that ended, of themselves or because their worker did."""
        ends: list[JobEnd] = []
        until = time.monotonic() + timeout
        # Invariant: `ends` is empty, and workers were looked at at most `WATCH_EVERY` seconds and one answer ago. It
        # returns with the first end, as its slot can have another job at once.
        while not ends and (left := until - time.monotonic()) > 0:
            for worker, event in self._listen(min(left, WATCH_EVERY)):
                end = self._handle(worker, event)
                if end is not None:
                    ends.append(end)
            if time.monotonic() - self._watched >= WATCH_EVERY:
                ends += self._watch()
        return ends

    def close(self) -> None:
        """End all workers; idle ones finish by themselves."""
        # All are told before any is waited for, so that they end at the same time.
        for worker in self._workers.values():
            worker.dismiss()
        for worker in list(self._workers.values()):
            worker.wait_until_gone()
            self._remove(worker)

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.request is not None]

    def _listen(self, timeout: float) -> list[Heard]:
        found = list[Heard]()
        with contextlib.suppress(queue.Empty):
            found.append(self._heard.get(timeout=timeout))
            while True:
                found.append(self._heard.get_nowait())
        return found

    def _handle(self, worker: Worker, event: Event | JobEnd | None) -> JobEnd | None:
        # Its words may still be in the queue when it was ended for memory or silence.
        if self._workers.get(worker.slot) is not worker:
            return None  # it was ended, and its job counted
        if event is None:
            return self._ended(worker, "killed", None)
        if isinstance(event, (Finished, Failed, Overtaken)):
            worker.request = None
            size = resident_memory(worker.pid) if self._limits.memory else 0.0
            if isinstance(event, Failed) or size > (self._limits.memory or 0.0) / 2:
                self._remove(worker)  # a failure may have left it unfit, and what it keeps counts against the next job
            return event
        # No sign of life, as a compiler may hang too.
        if not isinstance(event, Compiling):
            worker.heard = time.monotonic()
        worker.begun |= isinstance(event, Started)
        self._emit(event)
        return None

    def _watch(self) -> list[JobEnd]:
        """End the workers that take too much memory or are silent for too long."""
        self._available, self._watched = available_memory(), time.monotonic()
        self._sizes = {worker.slot: resident_memory(worker.pid) for worker in self._busy()}
        return [end for worker in self._busy() if (end := self._judge(worker)) is not None]

    def _judge(self, worker: Worker) -> JobEnd | None:
        silent, size = time.monotonic() - worker.heard, self._sizes[worker.slot]
        most, longest = self._limits.memory, self._limits.silence
        # Its last answers may still be on their way: only then is its end, rather than what they say, how the job
        # ended.
        if worker.is_gone() and silent > LAST_ANSWERS:
            return self._ended(worker, "killed", None)
        if most is not None and size > most:
            why = f"it took {size / GB:.2f} GB of memory, more than the {most / GB:g} GB of `memory_gb`"
            return self._ended(worker, "memory", why)
        if longest is not None and silent > longest + (0.0 if worker.begun else START_WITHIN):
            worker.write_stacks()
            return self._ended(worker, "hang", f"it gave no sign of life for the {longest:g} s of `hang_after`")
        return None

    def _ended(self, worker: Worker, kind: Kind, why: str | None) -> JobEnd | None:
        """End the worker; how its job ended with it, where it had one. `why` is None where it ended by itself."""
        request, why = worker.request, why or worker.how_it_ended()  # before it is killed, which would be its end
        worker.kill()
        self._remove(worker)
        if request is None:
            return None
        append_log(Path(request.root) / request.job, f"--- ended: {why}\n")
        return Failed(request.job, kind, why)

    def _remove(self, worker: Worker) -> None:
        worker.discard()
        del self._workers[worker.slot]

    def _say_low(self, low: bool, need: float) -> None:
        if low and not self._said_low:
            have = f"{self._available / GB:.1f} GB of memory are available"
            self._emit(Note(f"{have}; another job starts once there are {need / GB:g} GB beside what runs."))
        self._said_low = low


@register
def pool(
    workers: int | None = None,
    memory_gb: float | None = None,
    threads: int | None = None,
    hang_after: float | None = None,
) -> RunnerFactory:
    """Worker processes on this machine, each on `threads` cores of its own; by default up to 8 that share all cores.

    A job whose worker, with all that it started, takes more than `memory_gb`, or reports nothing for `hang_after`
    seconds, is ended; None is no bound. Another job starts only while `memory_gb` (1 without) are available.
    """
    for name, value in (
        ("workers", workers),
        ("memory_gb", memory_gb),
        ("threads", threads),
        ("hang_after", hang_after),
    ):
        if value is not None and value <= 0:
            raise ValueError(
                f"`{name}` of the runner pool must be positive, got {value}. Leave it out for the default."
            )
    limits = Limits(None if memory_gb is None else memory_gb * GB, hang_after)
    return lambda emit: Pool(slots(workers, threads), limits, emit)
