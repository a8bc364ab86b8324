"""Shortest times of several functions taken in turns; `qat.runtime` has medians."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def best(functions: Mapping[str, Callable[[], Any]], rounds: int = 5) -> dict[str, float]:
    """Smallest seconds of one call of each function, in turns, without warming up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, call in functions.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}
