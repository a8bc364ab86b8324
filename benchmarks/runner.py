"""What a runner adds to each trial: jobs that do nothing, in this process and in a pool of one worker.

python benchmarks/runner.py

The start of the worker's process is left out: it is counted from the end of the first job to the end of the last.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from shared.verdict import report

from qat.lab.jobs.display import Lines
from qat.lab.jobs.execute import execute
from qat.lab.jobs.job import Job, Report

JOBS = 50
DONE = "done"


class Ends(Lines):
    """Notes when each job was over, and the seconds that it took by itself."""

    def __init__(self):
        super().__init__(Console(quiet=True), lambda job: job.label)
        self.ends: list[tuple[float, float]] = []

    def finished(self, job: Job, seconds: float | None) -> None:
        """Note it."""
        self.ends.append((time.perf_counter(), seconds or 0.0))


def nothing(root: str, payload: Mapping[str, Any], report: Report) -> None:
    """A job that is done at once, and leaves the smallest result."""
    report("nothing", 1, 1, None)
    (Path(root) / payload["id"] / DONE).touch()


def overhead(runner: str) -> float:
    """Seconds between the ends of two jobs, less what the second took itself, on average."""
    jobs = [Job(f"trials/{i:03}", "trial", str(i), "", (), {"id": f"trials/{i:03}"}) for i in range(JOBS)]
    with tempfile.TemporaryDirectory() as name:
        root, view = Path(name), Ends()
        for job in jobs:
            (root / job.id).mkdir(parents=True)
        execute(
            jobs,
            root,
            runner,
            is_finished=lambda job: (root / job.id / DONE).exists(),
            work="runner:nothing",
            view=view,
        )
    (first, _), (last, _) = view.ends[0], view.ends[-1]
    return (last - first - sum(seconds for _, seconds in view.ends[1:])) / (len(view.ends) - 1)


def main() -> None:
    """Print the seconds that each runner adds to a trial."""
    bounds = {"inprocess": 0.2, "pool(workers=1)": 2.0}
    measured = {runner: overhead(runner) for runner in bounds}
    rows = [(f"{runner}, s a trial", measured[runner], bound) for runner, bound in bounds.items()]
    report(f"what a runner adds to a trial, {JOBS} trials that do nothing", [*rows])


if __name__ == "__main__":
    main()
