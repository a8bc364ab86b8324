"""The profile of a sweep: its time by what is done, and by what of it is compilation, arithmetic and Python.

This process is sampled: every few milliseconds the code that runs is looked up, and the time since the last look is
put down to it. So nothing is changed in what is measured, and all is told, whatever it is.
"""

import contextlib
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.table import Table

from qat.lab.jobs.threads import beside

EVERY = 0.005  # seconds between two looks
HOME = str(Path(__file__).parents[2])

AREAS = (
    ("report", ("/lab/report/",)),
    ("evaluation", ("/lab/experiment/trial.py",)),
    ("training", ("/train/",)),
    ("calibration and methods", ("/lab/experiment/quantizing.py",)),
    ("plan and checks", ("/lab/experiment/stages.py", "/lab/experiment/check.py", "/lab/sweep/study.py")),
    ("files and jobs", ("/lab/",)),
)
"""Areas by parts of the paths of files, the first that any frame is in."""
OTHER = "imports and the rest"

COMPILING = ("jax/_src/compiler.py", "jax/_src/interpreters/mlir.py", "jax/_src/interpreters/partial_eval.py")
WAITING = (
    ("jax/_src/array.py", "_value"),
    ("jax/_src/array.py", "block_until_ready"),
    ("jax/_src/api.py", "block_until_ready"),
    ("jax/_src/interpreters/pxla.py", "__call__"),
)
TURNS = f"{HOME}/lab/jobs/turns.py"

type Kind = str
KINDS = ("compilation", "arithmetic", "Python")


@dataclass
class Profile:
    """Seconds, and seconds of processors, by area and kind."""

    seconds: dict[tuple[str, Kind], float] = field(default_factory=lambda: defaultdict(float))
    processors: dict[tuple[str, Kind], float] = field(default_factory=lambda: defaultdict(float))

    def table(self) -> Table:
        """The times as a table, the longest area first."""
        found = Table(title="Where the time went, in seconds of this process", title_justify="left")
        for name in ("what", *KINDS, "all", "share", "processors"):
            found.add_column(name, justify="left" if name == "what" else "right")
        whole = sum(self.seconds.values()) or 1.0
        areas: dict[str, float] = defaultdict(float)
        for (area, _), value in self.seconds.items():
            areas[area] += value
        for area, value in sorted(areas.items(), key=lambda one: -one[1]):
            found.add_row(area, *self._cells([area], value, whole))
        found.add_section()
        found.add_row("all", *self._cells(list(areas), whole, whole))
        return found

    def _cells(self, areas: list[str], value: float, whole: float) -> list[str]:
        kinds = [sum(self.seconds[area, kind] for area in areas) for kind in KINDS]
        busy = sum(self.processors[area, kind] for area in areas for kind in KINDS)
        return [*(f"{x:.1f}" for x in kinds), f"{value:.1f}", f"{value / whole:.0%}", f"{busy:.1f}"]


@contextlib.contextmanager
def profiled() -> Iterator[Profile]:
    """Sample this process for the block. Work in other processes, such as the pool's, is none of it."""
    found, main = Profile(), threading.get_ident()

    def watch(over: threading.Event) -> None:
        last = time.perf_counter(), time.process_time()
        while not over.wait(EVERY):
            now = time.perf_counter(), time.process_time()
            frames = sys._current_frames()
            turns = [frames[t.ident] for t in threading.enumerate() if t.name == "turn" and t.ident in frames]
            at = place([frames[main], *turns])
            found.seconds[at] += now[0] - last[0]
            found.processors[at] += now[1] - last[1]
            last = now

    with beside(watch, "profile"):
        yield found


def place(threads: Sequence[FrameType]) -> tuple[str, Kind]:
    """The area and kind of what runs, from the innermost frames of the threads that take turns, the first of which
    waits for the others."""
    stacks = [stack(frame) for frame in threads]
    # One of them runs at a time; the others wait within the code that hands the turns on.
    running = next((calls for calls in reversed(stacks) if not _waits_for_its_turn(calls)), stacks[0])
    return area_of(running), kind_of(running)


def stack(frame: FrameType | None) -> list[tuple[str, str]]:
    """File and function of a frame and of all around it, the innermost first."""
    calls = []
    while frame is not None:
        calls.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    return calls


def area_of(calls: Sequence[tuple[str, str]]) -> str:
    """The area of a stack of calls."""
    files = [file.removeprefix(HOME) for file, _ in calls if file.startswith(HOME)]
    for area, parts in AREAS:
        if any(part in file for file in files for part in parts):
            return area
    return OTHER


def kind_of(calls: Sequence[tuple[str, str]]) -> Kind:
    """The kind of a stack of calls: it traces, lowers or compiles, it waits for results, or it is other Python."""
    # The innermost call tells most; what is compiled is computed by jax as well, further in.
    for file, name in calls:
        if file.endswith(COMPILING):
            return "compilation"
        if any(file.endswith(end) and name == own for end, own in WAITING):
            return "arithmetic"
    return "Python"


def _waits_for_its_turn(calls: Sequence[tuple[str, str]]) -> bool:
    innermost = next((file for file, _ in calls if not file.endswith("threading.py")), "")
    return innermost == TURNS
