"""Leases of jobs where several processes work on one folder: `claims/jobs/<job id>/<number>.json`.

The claims of a job are numbered, and the last one counts. A claim is made by exclusive creation of the next number, so
of all that see the last one given up, or its holder dead, one alone gets the job; nothing is ever removed, so that no
order of events makes a number free again. Its holder alone writes a claim once more, to say how it ended.
"""

import contextlib
import errno
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from qat.fileio import share, write_atomically
from qat.lab.jobs.presence import ProcessId, clock, is_dead, modified, process_id_from

CLAIMS = "claims/jobs"
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

type Outcome = Literal["finished", "failed", "given back"]


@dataclass(frozen=True)
class Claim:
    """The last claim of a job: its number, who made it (None where the file is unreadable), and how it ended, None
    while it is held."""

    job: str
    number: int
    holder: ProcessId | None
    outcome: Outcome | None = None


def take(root: Path, job: str, me: ProcessId) -> Claim:
    """The claim that counts: a new one of `me` where the job was free or its holder is dead, else the other's."""
    number = 0
    # Invariant: no claim numbered below `number` counts any more, as nothing is ever removed. Each turn either
    # returns or has seen a higher number, because a creation fails only where another process made that very number
    # first.
    while True:
        last = last_claim(root, job, at_least=number)
        if last is not None and not is_free(root, last, me):
            return last
        # Exactly the next number: two that saw the same last claim try to make the same file, and only one of them
        # can.
        number = 1 if last is None else last.number + 1
        mine = Claim(job, number, me)
        path = _file(root, mine)
        # A folder that stays empty, should this process die here, means what no folder does: nobody holds the job.
        path.parent.mkdir(parents=True, exist_ok=True)
        if _create(path, _text(mine)):
            return mine


def release(root: Path, mine: Claim, outcome: Outcome) -> None:
    """Give the job up, with how it went."""
    # Replaced as a whole, and only by its holder: a reader sees the claim held or given up, never half a file. A
    # holder that was taken for dead writes its old number only, which no longer counts.
    write_atomically(_file(root, mine), _text(replace(mine, outcome=outcome)))


def last_claim(root: Path, job: str, at_least: int = 0) -> Claim | None:
    """The claim that counts, None where nobody ever made one.

    A network file system may list a folder as it was a while ago: number `at_least` is known to be there.
    """
    place = root / CLAIMS / job
    names = [path.name.removesuffix(".json") for path in place.iterdir()] if place.exists() else []
    # Temporary files of other writers lie in the same folder; their names are no numbers.
    number = max([at_least, *(int(name) for name in names if name.isdecimal())])
    return _read(root, job, number) if number else None


def is_free(root: Path, claim: Claim, me: ProcessId) -> bool:
    """Whether its holder gave the job up or is dead."""
    if claim.outcome is not None:
        return True
    # The claim's own age counts as a sign of life, so that a process whose heartbeat is not visible yet (a slow
    # shared disk) does not lose a job that it has just taken.
    seen, now = modified(_file(root, claim)), clock(root, me)
    return is_dead(root, claim.holder or _nobody(), seen, now)


def fence(root: Path, mine: Claim) -> Path:
    """The file that appears when another process takes the job over."""
    return _file(root, replace(mine, number=mine.number + 1))


def _file(root: Path, claim: Claim) -> Path:
    return root / CLAIMS / claim.job / f"{claim.number}.json"


def _text(claim: Claim) -> str:
    holder = None if claim.holder is None else asdict(claim.holder)
    return json.dumps({"holder": holder, "outcome": claim.outcome}) + "\n"


def _read(root: Path, job: str, number: int) -> Claim:
    claim = Claim(job, number, None)
    try:
        found = json.loads(_file(root, claim).read_text(encoding="utf-8"))
        return replace(claim, holder=process_id_from(found["holder"]), outcome=found["outcome"])
    # Unreadable is not free: it may be a claim that another machine writes just now. Its age decides.
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return claim


def _nobody() -> ProcessId:
    """Stands for the holder of a claim that cannot be read: on no known machine, so its age decides."""
    return ProcessId("unknown", "unknown", "unknown", 0, 0.0, "unknown")


def _create(path: Path, text: str) -> bool:
    """Make the file, whole, unless it is there; whether this call made it."""
    # Written under another name first and then linked, because a link appears with its content: a claim that is seen
    # is seen whole. The folder is the same, as links do not cross file systems.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".claim.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        share(Path(name))
        return _link(name, path, text)
    finally:
        Path(name).unlink(missing_ok=True)


def _link(whole: str, path: Path, text: str) -> bool:
    try:
        os.link(whole, path)
    except FileExistsError:
        # A network file system may have lost the answer to a link that it made, and been asked again.
        return Path(whole).stat().st_nlink == 2
    except OSError as error:
        # Without hard links exclusive creation still chooses one process alone; only its content may be seen late.
        if error.errno not in NO_LINKS:
            raise
        with contextlib.suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(text)
            return True
        return False
    return True
