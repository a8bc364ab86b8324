"""The threads that XLA computes with on a processor: it splits sums by their number, so last digits depend on it.

How many cores they share changes the time alone. Threads of our own watch beside a block (`beside`).
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "NPROC"  # read by XLA when it starts
USUAL = 8  # more make little faster, and up to that most machines can give one study's runners the same number
TASKS = Path("/proc/self/task")
NAME = "tf_XLAEigen"


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def threads() -> int:
    """The number of XLA's threads in this process: counted once it has started (on Linux), else the number that it
    would start.
    """
    return started() or asked() or len(cores())


def asked() -> int | None:
    """The number of threads that the environment asks for."""
    text = os.environ.get(VARIABLE, "")
    return int(text) if text.isdecimal() and int(text) else None


def started() -> int:
    """The threads that XLA has started here; 0 where it has not, or the system does not tell."""
    if "jax" not in sys.modules:
        return 0
    count = 0
    with contextlib.suppress(OSError):
        for task in TASKS.iterdir():
            with contextlib.suppress(OSError):  # a thread that ended meanwhile
                count += (task / "comm").read_text().strip() == NAME
    return count


@contextlib.contextmanager
def using(number: int) -> Iterator[bool]:
    """Have XLA start with so many threads, here and in processes started meanwhile; whether this one computes so."""
    # In the environment, since XLA reads it there once, when it starts, and worker processes inherit it.
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(number)
    try:
        yield (started() or number) == number
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


@contextlib.contextmanager
def on_cores(number: int) -> Iterator[int]:
    """Let this process use at most so many of its cores; how many it has."""
    mine = cores()
    if not hasattr(os, "sched_setaffinity") or len(mine) <= number:
        yield len(mine)
        return
    os.sched_setaffinity(0, mine[:number])
    try:
        yield number
    finally:
        os.sched_setaffinity(0, mine)


@contextlib.contextmanager
def beside(watch: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Run `watch(over)` in a thread beside the block, at whose end `over` is set and the thread waited for."""
    over = threading.Event()
    thread = threading.Thread(target=watch, args=(over,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
