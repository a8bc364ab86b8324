"""A unit of work that a runner starts: a stage that trials share, or a trial."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

type Report = Callable[[str, int, int, float | None], None]
"""Told while a job runs: what it is doing, steps done, steps in all, and the newest loss."""


@dataclass(frozen=True)
class Job:
    """Work with a name of its own in the study's folder.

    `id` names its folder, relative to the study's root (`stages/float-1f0c...`, `trials/...`), and changes with
    whatever its result depends on, or (for a trial) the `key` does. It may start once all jobs in `needs` are finished.
    `payload` is plain JSON: with the root all that `run_job` needs, in this process or on another machine.
    """

    id: str
    kind: str
    label: str
    key: str
    needs: tuple[str, ...]
    payload: Mapping[str, Any]
