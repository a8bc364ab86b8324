"""Speed of programs: the times of all trials that ran the same one, taken together."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from qat.lab.runs.record import Record
from qat.lab.stats import FEW

RESOLVED_MS = 2.0  # of shorter calls one and the same program was 0.8 to 1.15 times as fast from trial to trial
NOISE = 0.05  # of a ratio: as much one and the same program differs from itself


@dataclass(frozen=True)
class Speed:
    """A call's milliseconds, the median of its `trials`, and how many times faster it is than the float model's: median
    and quartiles over all parts of their measurements. None where calls are too short for so few trials to tell, or for
    older records, which name no program."""

    latency_ms: float
    faster: float | None
    low: float | None
    high: float | None
    trials: int

    @property
    def told_apart(self) -> bool:
        """Whether it is faster or slower than float, by more than the noise."""
        return self.low is not None and self.high is not None and not self.low - NOISE <= 1 <= self.high + NOISE


def speeds(records: Iterable[Record]) -> dict[str, Speed]:
    """The speed of each trial's program on so many cores; of a record that names no program, that of its arm."""
    records, found = list(records), dict[tuple, list[Record]]()
    floats = {record.program for record in records if record.recipe is None and record.program}
    for record in records:
        if "latency_ms" in record.timings:
            found.setdefault(_measured(record), []).append(record)
    return {record.trial: speed for alike in found.values() for speed in [_speed(alike, floats)] for record in alike}


def _measured(record: Record) -> tuple:
    """The key that trials share whose times may be taken together."""
    timings = record.timings
    return record.program or record.lineage.group, timings.get("latency_batch"), timings.get("cores")


def _speed(records: list[Record], floats: Collection[str]) -> Speed:
    """The speed of one program; of one that is a float model's too, what its trials measured is noise."""
    latency = float(np.median([record.timings["latency_ms"] for record in records]))
    is_float = records[0].recipe is None or records[0].program in floats
    parts = [1.0] if is_float else [part for record in records for part in _faster(record) if math.isfinite(part)]
    shortest = min(latency, *(record.timings.get("float_latency_ms", latency) for record in records))
    few = len(records) < FEW or not records[0].program
    if not parts or (few and shortest < RESOLVED_MS and not is_float):
        return Speed(latency, None, None, None, len(records))
    low, median, high = map(float, np.quantile(parts, (0.25, 0.5, 0.75), method="weibull"))  # of one trial its own
    return Speed(latency, median, low, high, len(records))


def _faster(record: Record) -> list[float]:
    """Quartiles of how many times faster than float a trial's calls were; older records have one number."""
    timings = record.timings
    if "faster" in timings:
        return [timings[name] for name in ("faster_low", "faster", "faster_high")]
    return [timings.get("float_latency_ms", math.nan) / (timings["latency_ms"] or math.nan)]
