"""Run a graph of jobs to its end, with whatever runs them, beside whoever else works on the same folder."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qat.fileio import refusal, working_folder
from qat.lab.jobs.display import SILENT, View
from qat.lab.jobs.job import Job, check, wanted
from qat.lab.jobs.log import Failure
from qat.lab.jobs.presence import present, sweep_out, this_process
from qat.lab.jobs.runners import Runner, RunnerFactory, runners
from qat.lab.jobs.schedule import Rules, Schedule

WORK = "qat.lab.sweep.work:run_job"
TICK = 0.5  # seconds between two looks at what is not told by itself


@dataclass(frozen=True)
class Outcome:
    """The outcome of each job: finished before, here, or elsewhere meanwhile; failures are by job id, in order.

    Jobs that were not finished and not needed any more, such as a stage of finished trials alone, are in none of them.
    """

    before: tuple[Job, ...]
    finished: tuple[Job, ...]
    elsewhere: tuple[Job, ...]
    failed: Mapping[str, Failure]

    def summary(self, root: Path) -> str:
        """A list of failures and the logs to read, causes before what fell with them; the empty string where nothing
        did.
        """
        own = {name: failure for name, failure in self.failed.items() if failure.kind != "dependency"}
        fallen = len(self.failed) - len(own)
        lines = [
            f"  {name}: {failure.error}\n    {failure.kind}, {_times(failure.attempts)}: {root / name / failure.log}"
            for name, failure in own.items()
        ]
        if fallen:
            lines.append(f"  and {fallen} that need one of these")
        return "\n".join([f"{len(self.failed)} failed:", *lines]) if lines else ""


def execute(
    jobs: Sequence[Job],
    root: Path,
    runner: str | RunnerFactory,
    *,
    is_finished: Callable[[Job], bool],
    damaged: Collection[str] = (),
    work: str = WORK,
    retries: int = 1,
    view: View = SILENT,
    settle: float = 60.0,
) -> Outcome:
    """Run the open ones of `jobs`, each after what it needs, and wait for those that other processes hold.

    `runner` is a registered runner, such as `"pool(workers=2)"`, or what opens one. `work` names the function that does
    a job, as `module:function`; it is called as `function(root, payload, report)`. A job that fails is tried again
    `retries` times unless its error cannot pass, then marked, and with it only what depends on it. A result counts once
    `is_finished` says so, within `settle` seconds of the job's end. `damaged` are the ids of jobs to do again even if
    no open job needs them.

    Raises `ValueError` for jobs out of order, an unknown runner or an address in the place of a folder, `OSError` with
    a message for the user where the disk is full or out of reach, `KeyboardInterrupt` on Ctrl-C, SIGTERM and SIGHUP; in
    every case what runs is ended, and what is finished stays.
    """
    check(jobs)
    root = working_folder(root).absolute()  # as other processes need it
    factory, name = (runners.build(runner), runner) if isinstance(runner, str) else (runner, "a runner of its own")
    try:
        before = [job for job in jobs if is_finished(job)]
        view.begin(jobs, before)
        rules = Rules(root, this_process(name), is_finished, work, retries, settle)
        schedule = Schedule(wanted(jobs, {job.id for job in before}, damaged), before, rules, view)
        if schedule.under_way():
            _run(schedule, rules, factory)
    except OSError as error:
        message = refusal(error)
        if message is None:
            raise
        raise OSError(message) from error
    here, elsewhere = schedule.those("finished"), schedule.those("finished elsewhere")
    return Outcome(tuple(before), tuple(here), tuple(elsewhere), schedule.failures)


def _run(schedule: Schedule, rules: Rules, factory: RunnerFactory) -> None:
    root, me = rules.root, rules.me
    # Presence encloses all claims: it begins before the first one is taken and ends after the last is given back, so
    # no claim is ever seen whose holder does not seem alive.
    with ended_by_signals(), present(root, me, lambda: schedule.news):
        sweep_out(root, me)
        # The runner is closed before claims are given back: a job is free for others only once nothing here works on
        # it.
        with schedule.holding(), contextlib.closing(factory(schedule.observe)) as runner:
            _loop(schedule, runner)


def _loop(schedule: Schedule, runner: Runner) -> None:
    looked = time.monotonic()
    # Invariant: before each turn every job that ended has been taken note of. A turn waits at most about a tick, so
    # that results of other processes, and room that comes free by itself, are seen soon.
    while schedule.under_way():
        schedule.start_ready(runner)
        schedule.publish()
        for end in runner.wait(TICK):
            schedule.ended(end)
        schedule.settle()
        if time.monotonic() - looked >= TICK:
            schedule.look_elsewhere()
            looked = time.monotonic()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, end a sweep like Ctrl-C does; where they are ignored they stay so."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP") if here else ()
    # Only the main thread may set handlers, and SIGHUP is unknown to some systems.
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Whoever ignores a signal (`nohup`) or handles it has a reason.
    changed = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
