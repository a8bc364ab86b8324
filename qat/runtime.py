"""This process at run time: memory of the C library, compiled programs, and times of functions."""

import ctypes
import functools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

PADDING = 1 << 28  # bytes that the heap grows by at least
SETTINGS = {
    -8: 1,  # M_ARENA_MAX: memory that one thread freed serves all threads
    -4: 0,  # M_MMAP_MAX: large blocks come from the heap too
    -2: PADDING,  # M_TOP_PAD
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: the end of the heap is never returned to the system
}  # parameters of mallopt(3) in glibc's malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Have this process keep the memory that it frees for later use; return whether the C library can do so.

    XLA on a CPU allocates the temporaries of every call anew. glibc returns large blocks to the system when they are
    freed, which clears their pages when they are allocated again: a sixth of the time of MiniLM's fine-tuning step.
    With another C library this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in SETTINGS.items())


KEEP = "QAT_KEEP_FREED_MEMORY"


def keep_freed_memory_unless_told() -> None:
    """`keep_freed_memory`, which `serve` and `compile` do by default; not with `QAT_KEEP_FREED_MEMORY=0` in the
    environment."""
    if os.environ.get(KEEP) != "0":
        keep_freed_memory()


LIMIT = Path("/proc/sys/vm/max_map_count")
MAPPINGS = Path("/proc/self/maps")


def mappings() -> int:
    """The number of memory regions that this process has mapped; 0 where the system does not say."""
    try:
        return MAPPINGS.read_bytes().count(b"\n")
    except OSError:
        return 0


def make_room(share: float = 0.5) -> bool:
    """Drop all compiled programs where more than `share` of the allowed mappings is in use; return whether it did.

    They are compiled again at their next call. For processes that keep compiling, such as sweeps and tests.
    """
    try:
        limit = int(LIMIT.read_text())
    except (OSError, ValueError):
        return False
    if mappings() <= share * limit:
        return False
    jax.clear_caches()
    return True


WARM_UP = 2
ROUNDS = 30
PARTS = 5
LEAST = 0.002  # seconds: shorter calls are timed several at once, as noise would hide a single one


def medians(functions: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of one call of each function, timed by `in_turns`."""
    return {name: statistics.median(times) for name, times in in_turns(functions, rounds).items()}


def shortest(functions: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """The shortest time of each function, timed by `in_turns`, in each of five parts of the rounds.

    Where other processes use the same cores, ratios of shortest times are closer to those of a quiet machine than
    ratios of medians are; the differences between the parts show how reliable they are. Each part has rounds from first
    to last.
    """
    times = in_turns(functions, rounds)
    return {name: [min(values[part::PARTS]) for part in range(PARTS)] for name, values in times.items()}


def in_turns(
    functions: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS, *, least: float = LEAST, settle: bool = False
) -> dict[str, list[float]]:
    """Seconds of one call of each function in each round, after two rounds of warming up.

    A round times each function once, and each round starts with another one, so that of three or more none follows
    itself: a call finds its memory warm after a call of the same function. A short call is repeated until the total
    takes `least` seconds, and its time is the mean. With `settle` each call runs untimed right before it is timed,
    where functions of several runtimes take turns: threads of the one before may still wait on the cores.
    """
    for _ in range(WARM_UP):
        repeats = {name: max(1, math.ceil(least / _seconds(call, 1))) for name, call in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            if settle:
                _seconds(functions[name], repeats[name])
            times[name].append(_seconds(functions[name], repeats[name]))
    return times


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return max(time.perf_counter() - start, 1e-9) / repeats
