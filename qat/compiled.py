"""Room for compiled programs: Linux gives a process some 65,000 memory mappings, XLA takes several for each program,
and its compiler crashes where there is none left."""

from pathlib import Path

import jax

LIMIT = Path("/proc/sys/vm/max_map_count")
MAPPINGS = Path("/proc/self/maps")


def mappings() -> int:
    """How many regions of memory this process has mapped; 0 where the system does not tell."""
    try:
        return MAPPINGS.read_bytes().count(b"\n")
    except OSError:
        return 0


def make_room(share: float = 0.5) -> bool:
    """Forget all compiled programs where more than this share of the mappings is taken; whether it did.

    They are compiled again when they are called next. For processes that compile without end: sweeps, tests.
    """
    try:
        limit = int(LIMIT.read_text())
    except (OSError, ValueError):
        return False
    if mappings() <= share * limit:
        return False
    jax.clear_caches()
    return True
