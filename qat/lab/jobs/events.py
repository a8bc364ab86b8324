"""Events that runners report to the scheduler about jobs: plain values, the same from every machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

type Kind = Literal["error", "killed", "hang", "memory", "dependency"]
"""Why a job failed: it raised, its process ended, it went silent, it took too much memory, what it needs failed."""


@dataclass(frozen=True)
class JobRequest:
    """A job as a runner is handed it; plain JSON, so that it can go to another machine.

    `root` is the study's folder, `work` the function that does the job, by import name; `fence` is a file whose
    appearance says that another runner has taken the job over.
    """

    root: str
    work: str
    job: str
    payload: Mapping[str, Any]
    fence: str


@dataclass(frozen=True)
class Started:
    """The job began; `where` says on what machine and in which process."""

    job: str
    where: str


@dataclass(frozen=True)
class Progress:
    """A job's progress: its present activity, steps done, steps in all, and the newest loss."""

    job: str
    what: str
    step: int
    steps: int
    loss: float | None


@dataclass(frozen=True)
class Compiling:
    """The report that a silent job is compiling `program`, for `seconds` already, as part of `what`. No sign of life: a
    compiler may hang too.
    """

    job: str
    what: str
    program: str
    seconds: float


@dataclass(frozen=True)
class Note:
    """A message that the user should read, such as why nothing starts."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The job is done; it took `seconds`."""

    job: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """The job is not done: one clear line and the traceback, empty where there is none.

    `refused` is the message for the user where the disk is full or out of reach, so that no other job would do better;
    `again` says whether another try may succeed.
    """

    job: str
    kind: Kind
    error: str
    traceback: str = ""
    refused: str | None = None
    again: bool = True


@dataclass(frozen=True)
class Overtaken:
    """The job was left because another runner, taking this one for dead, does it now."""

    job: str


type Event = Started | Progress | Compiling | Note
type JobEnd = Finished | Failed | Overtaken
type Emit = Callable[[Event], None]

ENDS: dict[str, type[Finished | Failed | Overtaken]] = {kind.__name__: kind for kind in (Finished, Failed, Overtaken)}
EVENTS: dict[str, type[Started | Progress | Compiling | Note]] = {
    kind.__name__: kind for kind in (Started, Progress, Compiling, Note)
}


def to_json(event: Event | JobEnd) -> dict[str, Any]:
    """Plain JSON from which `from_json` makes the event again."""
    return {"event": type(event).__name__, **vars(event)}


def from_json(found: Mapping[str, Any]) -> Event | JobEnd:
    """The event that `to_json` wrote."""
    return {**ENDS, **EVENTS}[found["event"]](**{name: value for name, value in found.items() if name != "event"})
