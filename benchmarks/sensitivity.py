"""One-pass estimates of how sensitive layers are to their bits, against the measured change of the loss.

Prints Spearman's rank correlation over all tensors and widths, by model and recipe, of three seeds.

python benchmarks/sensitivity.py [--full]

Reached by the quick models, means over seeds, against an aim of 0.9: around float `taylor` has 0.93 (CNN), 0.95
(BERT) and 0.42 (YOLO-lite); around w4a4 0.88, 0.75, 0.55; around w2a4 the best is 0.83 (CNN, `fisher`), 0.88 and 0.64
(`taylor`). So `qat.ptq.allocate` goes by measured changes alone.

The models train for a minute or two each; with `--full` they are those of the studies' size and train as long as there.
`float` rows round one tensor alone in the float network, the others one alone in the network of the recipe.
"""

import sys
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import qat
from qat import data
from qat.lab.experiment.objective import float_loss
from qat.lab.experiment.training import FirstBatches, Workload, workload_of
from qat.ptq.estimates import KINDS, Estimates, estimate
from qat.ptq.groups import Width
from qat.ptq.sensitivity import Change, Setup, measure, set_up
from qat.train import TrainConfig, fit

SEEDS = (0, 1, 2)
CALIBRATION, MEASURED = 4, 4  # batches


@dataclass(frozen=True)
class Model:
    """A model and its training; `size` is that of the batches of calibration and measurement."""

    name: str
    model: str
    data: str
    train: TrainConfig
    size: int
    recipes: tuple[str, ...] = ("w4a4", "w2a4")
    widths: tuple[int, ...] = (2, 3, 4, 6, 8)


def _trained(steps: int, rate: float, size: int, **more: Any) -> TrainConfig:
    return TrainConfig(steps=steps, batch_size=size, learning_rate=rate, warmup_steps=steps // 10, **more)


QUICK = (
    Model("CNN", "cnn(width=16)", "digits", _trained(300, 3e-3, 64), 64),
    Model("YOLO-lite", "yolo_lite(width=8)", "boards(images=200, size=128, held_out=0.2)", _trained(150, 3e-3, 8), 8),
    Model("BERT", "bert(size='tiny', vocabulary=512, positions=48)", "sentiment(examples=4000)",
          _trained(300, 1e-3, 32), 32),
)  # fmt: skip
FULL = (
    Model("CNN", "cnn", "digits", _trained(600, 3e-3, 64), 64),
    Model("YOLO-lite", "yolo_lite(width=24)", "boards(images=1000, crop=256)", _trained(1500, 2e-3, 16), 16),
    Model("BERT", "bert(size='mini', vocabulary=512, positions=48)", "sentiment", _trained(1500, 5e-4, 32), 32),
)


def main(full: bool) -> None:
    """Print one row a model, recipe and reference: each estimate's correlation, mean and range over the seeds."""
    table = Table(title="rank correlation with the measured change, mean (least) over seeds", title_justify="left")
    for name in ("model", "around", "changes", *KINDS):
        table.add_column(name)
    for model in FULL if full else QUICK:
        found: dict[str, list[list[float]]] = {}
        count: dict[str, int] = {}
        for seed in SEEDS:
            for around, values, changes in _correlations(model, seed):
                found.setdefault(around, []).append(values)
                count[around] = changes
                Console(stderr=True).print(model.name, f"seed {seed}", around, [f"{value:.3f}" for value in values])
        for around, rows in found.items():
            cells = [f"{np.mean(one):.3f} ({np.min(one):.3f})" for one in zip(*rows, strict=True)]
            table.add_row(model.name, around, str(count[around]), *cells)
    Console(width=120).print(table)


def _correlations(model: Model, seed: int) -> Any:
    """By reference: its name, the correlation of each estimate, and over how many changes."""
    workload = workload_of(model.model, model.data)
    variables, task = _train(workload, model, seed), workload.task
    calibration = FirstBatches(workload.full_batches(model.size, seed), CALIBRATION, task.arguments)
    held_out = data.in_order(workload.dataset.splits["validation"], model.size)
    batches = [(task.arguments(batch), batch) for batch, _ in zip(held_out, range(MEASURED), strict=False)]

    def loss(outputs: Any, batch: Any) -> jax.Array:
        return task.loss(outputs, batch)[0]

    for number, recipe in enumerate(model.recipes):
        q = qat.quantize(workload.functions.inference, qat.recipe(recipe))
        setup = set_up(q, variables, calibration, batches, loss, model.widths)
        references: dict[str, Any] = {} if number else {"float": [None] * len(setup.groups)}
        for name, around in {**references, recipe: list(setup.own)}.items():
            estimates, changes = estimate(setup, around), measure(setup, around)
            yield name, [_correlation(kind, setup, around, estimates, changes) for kind in KINDS], len(changes)


def _correlation(kind: Any, setup: Setup, around: Any, estimates: Estimates, changes: list[Change]) -> float:
    def estimated(change: Change) -> float:
        now = around[setup.groups.index(change.group)] or Width(None, None)
        sides = {"weights": now.weights, "activations": now.activations, change.side: change.bits}
        choice = None if change.side == "float" else Width(sides["weights"], sides["activations"])
        return estimates.change(kind, change.group, choice)

    found: Any = spearmanr([estimated(change) for change in changes], [change.mean for change in changes])
    return float(found.statistic)


def _train(workload: Workload, model: Model, seed: int) -> Any:
    variables = dict(jax.jit(workload.functions.init)(jax.random.key(seed), *workload.example()))
    state = {name: part for name, part in variables.items() if name != "params"}
    batches = workload.batches(model.train.batch_size, seed)
    loss, train = float_loss(workload.task, workload.functions), model.train.model_copy(update={"seed": seed})
    trained = fit(loss, variables["params"], state, batches, train, progress=False)
    return {"params": trained.params, **trained.state}


if __name__ == "__main__":
    main("--full" in sys.argv[1:])
