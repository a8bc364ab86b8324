"""Resources for workers: cores, accelerators and memory, and the environment that gives each its part."""

import contextlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from qat.lab.jobs.programs import variables
from qat.lab.jobs.threads import asked, cores

GB = 1e9
USUAL = 8  # workers; more cores than that make each faster, as the stages that trials share run one at a time
CGROUP = Path("/sys/fs/cgroup")
NVIDIA = Path("/proc/driver/nvidia/gpus")
CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


@dataclass(frozen=True)
class Slot:
    """A worker's part of the machine: cores to run on, none for no bound, and variables of its environment."""

    cores: tuple[int, ...]
    environment: Mapping[str, str]


def slots(workers: int | None, threads: int | None) -> list[Slot]:
    """One for each worker, `threads` cores for each as far as they go.

    Where neither is given there are `USUAL` workers, or as many as cores, and where jax would use accelerators one for
    each of these; they share the cores evenly. More workers than accelerators share them, and their memory.
    """
    available, gpus = cores(), accelerators()
    if workers is None:
        workers = max(1, len(available) // threads) if threads else min(USUAL, len(available))
        # One process a device: jax takes most of a device's memory when it starts.
        workers = min(workers, len(gpus)) if gpus else workers
    computing = threads or asked()  # a study's runners compute with one number of threads, on whatever cores
    threads = threads or max(1, len(available) // workers)
    return [
        Slot(_share(available, number, threads), _environment(number, workers, computing or threads, gpus))
        for number in range(workers)
    ]


def accelerators() -> list[str]:
    """The NVIDIA devices that jax would use, as `CUDA_VISIBLE_DEVICES` names them."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if not any(importlib.util.find_spec(name) for name in CUDA_PLUGINS):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(NVIDIA.iterdir())))] if NVIDIA.exists() else []


def available_memory() -> float:
    """Bytes that new work may take: what the system says is available, and not more than this container may use."""
    free = float(psutil.virtual_memory().available)
    # In a container the system reports the whole machine's memory. Files of other control groups, or `max` for no
    # limit, leave that number as it is.
    with contextlib.suppress(OSError, ValueError):
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(statistics["inactive_file"]))
    return free


def resident_memory(pid: int) -> float:
    """Bytes that a process and all that it started hold in memory; 0 where it is gone."""
    try:
        root = psutil.Process(pid)
        # A job may start processes (data loaders), whose memory the machine has to find as well.
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_info().rss
    return total


def _share(available: Sequence[int], number: int, threads: int) -> tuple[int, ...]:
    """The cores of one worker; where there are fewer than asked for, workers share them."""
    first = number * threads
    return tuple(sorted({available[i % len(available)] for i in range(first, first + threads)}))


def _environment(number: int, workers: int, threads: int, gpus: Sequence[str]) -> dict[str, str]:
    found = {"NPROC": str(threads), **variables(threads)}  # NPROC bounds XLA's threads where cores cannot be assigned
    if gpus:
        found["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        sharing = -(-workers // len(gpus))
        if sharing > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
            found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / sharing:.3f}"
    return found
