"""The page of a study that is still running: made when it is asked for, and not more often than it can be."""

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from qat.record import RECORD_FILE
from qat.report.contents import read_contents, stage_names
from qat.report.files import rows_of
from qat.report.page import page
from qat.storage import stamp
from qat.sweep.failure import FAILURE_FILE
from qat.sweep.folder import STUDY_FILE, TRIALS, read_study

PAUSE = 3.0  # seconds that a page stands at least, and
PATIENCE = 10.0  # times as long as it took to make


@dataclass(frozen=True)
class Made:
    """A page, what the study was when it was made, and until when (by the monotonic clock) it stands in any case."""

    stamp: str
    content: bytes
    until: float


class Board:
    """The newest page of a study, for several readers at once."""

    def __init__(self, root: Path, margin: float | None):
        self._root, self._margin = root, margin
        self._made: Made | None = None
        self._lock = threading.Lock()

    def stamp(self) -> str:
        """That of the page that a reader would be given now."""
        made = self._made
        return made.stamp if made and time.monotonic() < made.until else study_stamp(self._root)

    def page(self) -> bytes:
        """The page, made again where the study has moved on. Raises `ValueError` where it can no longer be read."""
        with self._lock:
            if self._made is None or self.stamp() != self._made.stamp:
                self._made = self._make()
            return self._made.content

    def _make(self) -> Made:
        started, seen = time.monotonic(), study_stamp(self._root)
        contents = read_contents(self._root)
        content = page(contents, rows_of(contents, self._margin), live=seen).encode("utf-8", "replace")
        now = time.monotonic()
        return Made(seen, content, now + max(PAUSE, PATIENCE * (now - started)))


def study_stamp(root: Path) -> str:
    """A text that changes when a trial is finished, fails, or begins anew. Raises `ValueError` where no study is."""
    trials = read_study(root).trials
    jobs = [*(f"{TRIALS}/{trial}" for trial in trials), *stage_names(root)]
    files = [STUDY_FILE, *(f"{job}/{name}" for job in jobs for name in (RECORD_FILE, FAILURE_FILE))]
    seen = [(name, found) for name in files if (found := stamp(root / name))]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]
