"""Trainings of a study as one program against one after the other, as ratios in one run.

python benchmarks/batched.py     # 27 trainings of the digits CNN with quantization in the loop: 3 recipes x 9 seeds
python benchmarks/batched.py 6   # as many seeds

Both sides start from the same calibrated models, write the same metrics, and compile in this process. Times are of the
processors too, since other programs may use the same cores.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from shared.verdict import report

from qat.core.jaxpr import in_loops
from qat.lab.experiment.objective import simulated_loss
from qat.lab.experiment.quantizing import Calibration, calibrate, quantized
from qat.lab.experiment.together import LANES
from qat.lab.experiment.training import workload_of
from qat.recipes.presets import recipe
from qat.train import Fit, TrainConfig, fit_together
from qat.train.devices import data_mesh
from qat.train.fit import first_carry, numbers_of, step_of
from qat.train.loop import compiled
from qat.train.step import train_step

RECIPES = ("w8a8", "w4a4", "w2a4")
CONFIG = TrainConfig(steps=200, batch_size=64, learning_rate=3e-4, warmup_steps=20, checkpoint_every=10_000)
WORKLOAD = workload_of("cnn(width=16)", "digits(held_out=0.25)")


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of the processors."""

    wall: float
    processors: float


def main() -> None:
    """Print the table."""
    seeds = int(sys.argv[1]) if sys.argv[1:] else 9
    runs = [training(name, seed) for name in RECIPES for seed in range(seeds)]
    together, batched = cost(lambda: [one for part in parts(runs) for one in fit_together(part, size=LANES)])
    apart, alone = cost(lambda: [run.alone() for run in runs])
    steps = len(runs) * CONFIG.steps
    warm_apart, _ = cost(lambda: [run.alone() for run in runs[:LANES]])
    warm, _ = cost(lambda: fit_together(runs[:LANES], size=LANES))
    few, many, temporary = compilation(runs[0])
    own = sum(np.asarray(x).nbytes for x in jax.tree.leaves(carry(runs[0]))) + batch_bytes(runs[0])
    rows = [
        ("batched / one after the other, by the clock", together.wall / apart.wall, 0.2),
        ("the same, time of the processors", together.processors / apart.processors, None),
        ("the same without compilation, by the clock", warm.wall / warm_apart.wall, None),
        ("the same without compilation, processors", warm.processors / warm_apart.processors, None),
        ("compilation for 32 / for one", many / few, 1.3),
        ("memory of a group of 32 / 32 x parameters, optimizer and batch", temporary / (32 * own), 1.2),
        ("arrays of models that differ from those alone", differing(batched, alone), 0),
    ]
    title = (
        f"{len(runs)} trainings, {steps} steps: {together.wall:.1f} s batched, {apart.wall:.1f} s one after the other"
    )
    report(title, rows)


def training(name: str, seed: int) -> Fit:
    """A training with quantization in the loop, from a model with random weights and its ranges."""
    variables = dict(jax.jit(WORKLOAD.functions.init)(jax.random.key(seed), *WORKLOAD.example()))
    ranges, _ = calibrate(WORKLOAD, recipe(name), variables, Calibration(64, 2, seed))
    functions = quantized(WORKLOAD, recipe(name))
    model = {key: part for key, part in variables.items() if key != "params"}
    return Fit(
        loss=simulated_loss(WORKLOAD.task, functions.training.program, functions.inference.program),
        params={"params": variables["params"], "learned": ranges.learned},
        state={"model": model, "ranges": replace(ranges.bare, learned={})},
        batches=WORKLOAD.batches(CONFIG.batch_size, seed),
        config=CONFIG.model_copy(update={"seed": seed}),
        checkpoints=Path(tempfile.mkdtemp(prefix="qat-batched-")),
        inside=in_loops,
        save_end=False,
    )


def parts(runs: list[Fit]) -> list[list[Fit]]:
    """The runs as a study would train them."""
    return [runs[start : start + LANES] for start in range(0, len(runs), LANES)]


def cost(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """What some work takes, and its result."""
    wall, processors = time.perf_counter(), time.process_time()
    found = work()
    return Cost(time.perf_counter() - wall, time.process_time() - processors), found


def differing(some: list[Any], others: list[Any]) -> int:
    """The number of arrays in which two lists of results differ."""
    pairs = zip(*(jax.tree.leaves([(r.params, r.state) for r in results]) for results in (some, others)), strict=True)
    return sum(not np.array_equal(a, b) for a, b in pairs)


def carry(run: Fit) -> Any:
    """The carry of a run's first step."""
    return first_carry(run.params, run.state, run.config, data_mesh(1, 1, 1))


def batch_bytes(run: Fit) -> int:
    """The bytes of one batch."""
    return sum(np.asarray(x).nbytes for x in jax.tree.leaves(run.batches[0]))


def compilation(run: Fit) -> tuple[float, float, float]:
    """Processor seconds that compiling takes for one run alone and for 32, and the bytes that the latter program needs
    at once: its arguments, results that are not written over them, and what it computes in between."""
    step, first, chunk = step_of(run.loss, run.config, run.inside), carry(run), 50
    batch = jax.tree.map(lambda x: np.asarray(x)[None], run.batches[0])
    alone = train_step(step, data_mesh(1, 1, 1)).lower(first, batch, numbers_of(run.config)(0))
    places: Any = getattr(run.batches, "places")  # noqa: B009 - of batches that are rows of a table
    feed = [places(number).astype(np.int32)[None] for number in range(chunk)]
    numbers = [numbers_of(run.config)(number) for number in range(chunk)]

    def stacked(tree: Any, count: int) -> Any:
        return jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree)

    rows = jax.tree.map(lambda *xs: np.stack(xs), *feed), jax.tree.map(lambda *xs: np.stack(xs), *numbers)
    table: Any = getattr(run.batches, "table")  # noqa: B009
    arguments = stacked(first, 32), dict(table), stacked(rows[0], 32), stacked(rows[1], 32), np.zeros(32, np.int32)
    group = compiled(step, "map").lower(*arguments, np.full(1, 32, np.int32), np.int32(chunk))
    few, _ = cost(partial(alone.compile))
    many, program = cost(partial(group.compile))
    sizes = program.memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
    needed += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return few.processors, many.processors, float(needed - sum(np.asarray(x).nbytes for x in table.values()))


if __name__ == "__main__":
    main()
