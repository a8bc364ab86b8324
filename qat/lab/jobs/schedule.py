"""The state of a sweep under way: which jobs may start, run, are done or failed, here and elsewhere."""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from qat.lab.jobs.display import COMPILING, View
from qat.lab.jobs.events import Compiling, Event, Failed, Finished, JobEnd, JobRequest, Note, Overtaken, Started
from qat.lab.jobs.job import Job, dependents
from qat.lab.jobs.leases import Claim, Outcome, fence, is_free, last_claim, release, take
from qat.lab.jobs.log import Failure, clear_failure, read_failure, write_failure
from qat.lab.jobs.presence import ProcessId
from qat.lab.jobs.progress import Running, Tally, seconds_left
from qat.lab.jobs.runners import Runner

type State = Literal["open", "running", "settling", "elsewhere", "finished", "finished elsewhere", "failed"]

UNDER_WAY: tuple[State, ...] = ("open", "running", "settling", "elsewhere")


@dataclass(frozen=True)
class Rules:
    """The settings of a sweep under way: `settle` is how many seconds the result of a finished job may take to be seen
    here, which it does on some shared disks.
    """

    root: Path
    me: ProcessId
    is_finished: Callable[[Job], bool]
    work: str
    retries: int
    settle: float


class Schedule:
    """Jobs that must run, each with its state; `before` are those of the sweep that were finished already."""

    def __init__(self, jobs: Sequence[Job], before: Collection[Job], rules: Rules, view: View):
        self.failures: dict[str, Failure] = {}
        # Invariants, which hold between two calls: each job has one state; the jobs with a claim here are those that
        # run or settle, and those that will be tried again; a job starts only when all that it needs is in `_done`,
        # and nothing ever leaves `_done`, `finished` or `failed`. So the number of open jobs only falls, but for
        # retries and takeovers, which are bounded by `retries` and by deaths of other processes.
        self._jobs = {job.id: job for job in jobs}
        self._state: dict[str, State] = dict.fromkeys(self._jobs, "open")
        self._done = {job.id for job in before}
        self._before, self._rules, self._view = len(before), rules, view
        self._claims: dict[str, Claim] = {}
        self._attempts = Counter[str]()
        self._running: dict[str, Running] = {}
        self._settling: dict[str, tuple[float, float]] = {}  # seconds that the job took, when to give up
        self._took = defaultdict[str, list[float]](list)
        self._at_once = 1
        self.news: dict[str, Any] = {}
        self.publish()

    def those(self, *states: State) -> list[Job]:
        """The jobs in one of these states, in order."""
        return [self._jobs[name] for name, state in self._state.items() if state in states]

    def under_way(self) -> bool:
        """Whether something is left to do or to wait for."""
        return any(state in UNDER_WAY for state in self._state.values())

    def start_ready(self, runner: Runner) -> None:
        """Start what may start, for as long as the runner has room."""
        for job in self.those("open"):
            if self._done.issuperset(job.needs):
                # Asked before each start, as each start takes room. Jobs are in order of need, so earlier ones come
                # first.
                if runner.room() <= 0:
                    break
                self._start(job, runner)
        if not self._running and (held := self.those("elsewhere")):
            self._view.waiting(held)

    def ended(self, end: JobEnd) -> None:
        """Take note of how a job ended. Raises `OSError` where the disk refused: no other job would do better."""
        job = self._jobs[end.job]
        self._running.pop(job.id, None)
        if isinstance(end, Finished):
            # A job's word is not enough: its result counts once it can be read here, since what comes after reads it
            # too.
            self._settling[job.id] = end.seconds, time.monotonic() + self._rules.settle
            self._state[job.id] = "settling"
            self.settle()
        elif isinstance(end, Overtaken):
            # Without a release: the claim of a higher number counts now, and it is not ours.
            del self._claims[job.id]
            self._state[job.id] = "elsewhere"
        elif end.refused:
            # The disk is what all jobs have in common, so each further one would cost its time and fail the same way.
            raise OSError(end.refused)
        else:
            self._failed(job, end)

    def settle(self) -> None:
        """Count as finished what is seen to be, and as failed what should have been for a while."""
        # A list of its own: states change in the loop.
        for job in self.those("settling"):
            seconds, until = self._settling[job.id]
            if self._rules.is_finished(job):
                self._took[job.kind].append(seconds)
                # The mark of an earlier attempt goes before the claim does, so nobody sees a free job that is done
                # and marked as failed.
                clear_failure(self._rules.root / job.id)
                self._release(job, "finished")
                self._is_done(job, seconds)
            elif time.monotonic() >= until:
                self._failed(job, Failed(job.id, "error", f"{self._rules.work!r} returned, but left no result."))

    def look_elsewhere(self) -> None:
        """See what has become of the jobs that others hold."""
        root = self._rules.root
        for job in self.those("elsewhere"):
            # Read before the result is looked for: a claim that is given up as finished by then has left its result.
            claim = last_claim(root, job.id)
            if self._rules.is_finished(job):
                self._is_done(job, None)
            elif claim is None or is_free(root, claim, self._rules.me):
                failure = read_failure(root / job.id)
                # The holder has spent its retries and said so; trying again here would repeat them in every process
                # that works on the folder. One that died, or gave the job back, has said nothing of the job.
                if claim is not None and claim.outcome == "failed" and failure is not None:
                    self._give_up(job, failure)
                else:
                    self._state[job.id] = "open"

    def observe(self, news: Event) -> None:
        """Take note of what a runner says, and show it."""
        if isinstance(news, Note):
            self._view.note(news.text)
        # What arrives late of a job that has ended is dropped, so that its bar does not come back.
        elif running := self._running.get(news.job):
            if isinstance(news, Started):
                new = replace(running, where=news.where, since=time.time())
            elif isinstance(news, Compiling):
                new = replace(running, what=", ".join(filter(None, (news.what, f"{COMPILING}{news.program}"))))
            else:
                new = replace(running, what=news.what, step=news.step, steps=news.steps, loss=news.loss)
            self._running[news.job] = new
            self._view.running(self._jobs[news.job], new)
            self.publish()

    def publish(self) -> None:
        """Bring up to date what others may read of this sweep at any time: `news`, plain JSON, and the view's tally."""
        running = self._running.values()
        # The most at a time so far, since at the beginning and the end fewer run than the machine can.
        self._at_once = max(self._at_once, len(running))
        waiting = (job.kind for job in self.those("open", "elsewhere"))
        left = seconds_left(waiting, running, self._took, self._at_once)
        count = Counter(self._state.values())
        finished = self._before + count["finished"] + count["finished elsewhere"]
        total = self._before + len(self._state)
        tally = Tally(total, finished, count["failed"], count["running"], count["elsewhere"], left)
        self.news = {**asdict(tally), "jobs": {name: asdict(job) for name, job in self._running.items()}}
        self._view.tally(tally)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Give back, at the end, what is still held."""
        try:
            yield
        finally:
            for name in list(self._claims):
                with contextlib.suppress(OSError):  # another may take it as soon as this process is gone
                    self._release(self._jobs[name], "given back")

    def _start(self, job: Job, runner: Runner) -> None:
        root, me = self._rules.root, self._rules.me
        # A job that is tried again is still claimed: between two attempts nobody else may take it.
        claim = self._claims.get(job.id)
        if claim is None:
            if self._rules.is_finished(job):
                self._is_done(job, None)
                return
            # Looked at before, to spare a claim on each finished job, and after, since its result may be of the
            # holder before us.
            claim = take(root, job.id, me)
            if claim.holder != me:
                self._state[job.id] = "elsewhere"
                self._view.held(job, claim.holder)
                return
            self._claims[job.id] = claim
            if self._rules.is_finished(job):  # by who held it until a moment ago
                self._release(job, "finished")
                self._is_done(job, None)
                return
        self._attempts[job.id] += 1
        self._running[job.id] = Running(job.label, job.kind, "", time.time(), self._attempts[job.id])
        self._state[job.id] = "running"
        runner.start(JobRequest(str(root), self._rules.work, job.id, job.payload, str(fence(root, claim))))

    def _is_done(self, job: Job, seconds: float | None) -> None:
        """`seconds` is None where another did it."""
        self._done.add(job.id)
        self._state[job.id] = "finished elsewhere" if seconds is None else "finished"
        self._view.finished(job, seconds)

    def _failed(self, job: Job, end: Failed) -> None:
        failure = Failure(end.error, end.traceback, self._attempts[job.id], end.kind)
        if end.again and failure.attempts <= self._rules.retries:
            self._state[job.id] = "open"
            self._view.retried(job, failure)
            return
        # Marked first, then released: whoever finds the claim given up as failed finds the reason there.
        write_failure(self._rules.root / job.id, failure)
        self._release(job, "failed")
        self._give_up(job, failure)

    def _give_up(self, job: Job, failure: Failure) -> None:
        """Mark the job as failed, and all that depends on it."""
        fallen = Failure(f"{job.label!r} failed, which this needs: {failure.error}", "", 0, "dependency")
        # Only what is under way falls: a dependent that was finished before stays, whatever becomes of its need now.
        for one, why in [(job, failure), *((other, fallen) for other in dependents(self._jobs.values(), job.id))]:
            if self._state[one.id] in UNDER_WAY:
                if one is not job:
                    write_failure(self._rules.root / one.id, why)
                self.failures[one.id] = why
                self._state[one.id] = "failed"
                self._view.failed(one, why)

    def _release(self, job: Job, outcome: Outcome) -> None:
        release(self._rules.root, self._claims.pop(job.id), outcome)
