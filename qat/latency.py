"""Times of functions taken in turns, so that their ratios hold on a machine that is not quiet."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

WARM_UP = 2


def medians(functions: Mapping[str, Callable[[], Any]], rounds: int = 30) -> dict[str, float]:
    """Median seconds of one call of each function, all called once a round in turn after two rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + WARM_UP):
        for name, call in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if number >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}
