"""Jobs of this process that run in turns, so that what they have in common is done once: many trainings as one program.

The jobs stay jobs of their own: each has its claim, its folder, its log, its failure. What their work asks for while it
runs is answered for several of them together, by `together` of the module that the work is in.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

from qat.lab.jobs.events import Emit, Event, JobEnd, JobRequest, Note
from qat.lab.jobs.programs import kept
from qat.lab.jobs.run_one import How, Sharing, sharing
from qat.lab.jobs.runners.runner import RunnerFactory, one_here, register
from qat.lab.jobs.threads import threads
from qat.lab.jobs.turns import Stopped, has_turn, in_turns
from qat.registry import did_you_mean


class Batched:
    """Jobs that were started run together when they are waited for."""

    def __init__(self, size: int, options: Sharing, emit: Emit):
        self._size, self._options, self._emit_to = size, options, emit
        self._next: list[JobRequest] = []
        self._stopped = threading.Event()
        self._said: set[str] = set()
        self._programs = contextlib.ExitStack()
        self._programs.enter_context(kept(threads()))

    def room(self) -> int:
        """The jobs that can still join those that wait to be run."""
        return self._size - len(self._next)

    def start(self, request: JobRequest) -> None:
        """Take the job for the next `wait`."""
        self._next.append(request)

    def wait(self, timeout: float) -> list[JobEnd]:
        """Run the jobs to their end, whatever time it takes."""
        if not self._next:
            time.sleep(timeout)
            return []
        requests, self._next = self._next, []
        ends: list[JobEnd] = []
        # Jobs of different work have nothing in common.
        for work in dict.fromkeys(request.work for request in requests):
            ends += self._together(work, [request for request in requests if request.work == work])
        return ends

    def close(self) -> None:
        """Stop keeping compiled programs; nothing else is left to end."""
        self._next = []
        self._programs.close()

    def _together(self, work: str, requests: list[JobRequest]) -> list[JobEnd]:
        answer = sharing(work)
        if answer is None:
            self._note(f"{work!r} says nothing of what its jobs have in common, so each runs alone.")
            return [one_here(request, self._emit) for request in requests]
        jobs = [functools.partial(one_here, request, self._emit) for request in requests]

        def answers(asked: Sequence[Any]) -> Sequence[Any]:
            return answer(asked, self._options, self._note)

        return in_turns(jobs, answers, self._stopped)

    def _emit(self, event: Event) -> None:
        # Called by whichever job has its turn; one in the middle of it is told here that all are to end.
        if self._stopped.is_set() and has_turn():
            raise Stopped
        self._emit_to(event)

    def _note(self, text: str) -> None:
        """Tell the user, once."""
        if text not in self._said:
            self._said.add(text)
            self._emit_to(Note(text))


@register
def batched(size: int = 32, how: str = "map", chunk: int = 50, memory_gb: float | None = None) -> RunnerFactory:
    """This process, up to `size` jobs at a time: those that can share a program are trained as one, in calls of `chunk`
    steps each.

    By `map` each training ends as if it were alone, bit for bit; by `vmap` they are computed side by side, which is
    faster on accelerators and gives other last digits. A group takes at most `memory_gb`, by default half of what is
    available.
    """
    hows: tuple[How, ...] = get_args(How.__value__)
    if how not in hows:
        known = ", ".join(hows)
        raise ValueError(f"`how` of the runner batched must be one of {known}, got {how!r}.{did_you_mean(how, hows)}")
    for name, value in (("size", size), ("chunk", chunk), ("memory_gb", memory_gb)):
        if value is not None and value <= 0:
            raise ValueError(
                f"`{name}` of the runner batched must be positive, got {value}. Leave it out for the default."
            )
    make: Callable[[Emit], Batched] = functools.partial(Batched, size, Sharing(how, chunk, memory_gb))
    return make
