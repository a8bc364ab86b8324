"""What the processes that work on a study are doing now."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qat.sweep.alive import holder_from, is_dead, modified, presences


@dataclass(frozen=True)
class Work:
    """A job under way, where it runs, and how far it is: `step` of `steps`, which is 0 while it has not said."""

    label: str
    where: str
    what: str
    step: int
    steps: int


def running(root: Path) -> list[Work]:
    """The jobs of all processes that are alive; what they wrote of themselves is some seconds old."""
    found = []
    for path, content in presences(root):
        with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
            if not is_dead(root, holder_from(content), modified(path), time.time()):
                found += [_work(job) for job in content.get("jobs", {}).values()]
    return found


def _work(job: dict[str, Any]) -> Work:
    return Work(str(job["label"]), str(job["where"]), str(job["what"]), int(job["step"]), int(job["steps"]))
