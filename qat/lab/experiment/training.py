"""The stages that train in float: the model itself, and the control that trains on as long as a quantized arm does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from qat import data, tasks
from qat.core.jaxpr import in_loops
from qat.core.statistics import replaced, statistics_of
from qat.lab.experiment.objective import float_loss
from qat.lab.runs.files import CHECKPOINTS
from qat.lab.runs.manifest import write_how
from qat.lab.runs.metrics import append_point, write_points
from qat.models.adapter import Forward, check_forward, forward
from qat.models.pretrained import initial
from qat.tasks import Task
from qat.train import Fit, FitResult, TrainConfig, matching, per_example

if TYPE_CHECKING:
    from qat.lab.experiment.settings import ControlSettings, FloatSettings

type Report = Callable[[str, int, int, float | None], None]
"""Told while a stage runs: what it is, steps done, steps in all, and the newest loss."""

QUICKLY = {"xla_backend_optimization_level": 1}  # of a program that runs once: in full, the random draws cost seconds
OTHER_ORDER = 1_000_003  # training on sees the data in another order than the float stage did


@dataclass(frozen=True)
class Workload:
    """A model on a data set: its functions and its task; `engine` names the engine that multiplies integers in
    quantized functions, None the default ones; with `fold_norms` these have their norms folded."""

    dataset: data.Dataset
    task: Task
    functions: Forward
    engine: str | None = None
    fold_norms: bool = field(default=False, kw_only=True)

    def batches(self, size: int, seed: int) -> data.Batches:
        """Shuffled batches of the training split, augmented and cut to buckets where the data set says how."""
        return data.Batches(self.dataset.splits["train"], size, seed, self.dataset.augment, self.dataset.buckets)

    def full_batches(self, size: int, seed: int) -> data.Batches:
        """Batches that all have the full length, for calibration."""
        return replace(self.batches(size, seed), buckets=None)

    def abstract_variables(self) -> Any:
        """Shapes and dtypes of the model's variables. Raises `ValueError` where it does not keep to its contract."""
        return check_forward(self.functions, *self.example())

    def outcomes(self, examples: Any, variables: Any, split: str, size: int) -> dict[str, np.ndarray]:
        """Evaluate `examples(variables, batch)` for each example of a split, in its order."""
        order, batches = data.in_buckets(self.dataset.splits[split], size, self.dataset.buckets)
        return per_example(examples, variables, batches, order=order)

    def example(self, size: int = 1) -> tuple[Any, ...]:
        """The model's inputs for the first examples of the training split."""
        return self.task.arguments(next(iter(data.in_order(self.dataset.splits["train"], size))))


def workload_of(model: str, name: str, engine: str | None = None, *, fold_norms: bool = False) -> Workload:
    """The registered model on the registered data set.

    Raises `ValueError` where the data have more words than the model's embedding has rows.
    """
    dataset = data.load(name)
    functions = forward(model, **dataset.offers)
    rows = functions.vocabulary
    if rows is not None and dataset.vocabulary is not None and rows < dataset.vocabulary:
        raise ValueError(
            f"model {model!r} has an embedding of {rows} rows, but {name!r} has a vocabulary of {dataset.vocabulary}. "
            f"Give the model vocabulary={dataset.vocabulary}, or the data the tokenizer of the model's checkpoint."
        )
    return Workload(dataset, tasks.build(dataset.task), functions, engine, fold_norms=fold_norms)


@dataclass(frozen=True)
class Run:
    """A training in a stage's folder: checkpoints that it goes on from, and its metrics in `metrics.jsonl`.

    `identity` names what the result depends on beside the training's own settings; `watch(step, metrics)` is told of
    the metrics as they come. `train` is what trains: alone, or with the runs of other jobs.
    """

    kind: str
    identity: str
    folder: Path
    report: Report
    watch: Callable[[str, int, dict[str, float]], None]
    train: Callable[[Fit], FitResult] = Fit.alone

    def fit(self, loss: Any, start: tuple[Any, Any], workload: Workload, train: TrainConfig, seed: int) -> FitResult:
        """`qat.train.fit` on the workload's batches."""
        self.report(self.kind, 0, train.steps, None)

        def on_metrics(step: int, metrics: dict[str, float]) -> None:
            self.report(self.kind, step, train.steps, metrics["loss"])
            self.watch(self.kind, step, metrics)
            append_point(self.folder, self.kind, step, metrics)

        params, state = start
        run = Fit(
            loss=loss,
            params=params,
            state=state,
            batches=workload.batches(train.batch_size, seed),
            config=train.model_copy(update={"seed": seed}),
            checkpoints=self.folder / CHECKPOINTS,
            identity=self.identity,
            on_metrics=on_metrics,
            inside=in_loops,  # alone too, so that a run has the same numbers with others
            save_end=False,  # the stage's own result is written next
        )
        result = self.train(run)
        write_how(self.folder, result.how)
        write_points(self.folder, self.kind, result.history)
        return result


@dataclass(frozen=True)
class FirstBatches(Sequence[Any]):
    """The first batches of a source, as `make` makes them of each, made when they are asked for."""

    source: data.Batches
    count: int
    make: Callable[[Any], Any] = lambda batch: batch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(self.count)[index]]
        return self.make(self.source[range(self.count)[index]])


@dataclass(frozen=True)
class Undrawn:
    """A training function of variables and inputs alone: whatever it draws at random, such as dropout, it draws with
    one key."""

    training: Callable[..., tuple[Any, Any]]

    def __call__(self, variables: Any, *inputs: Any) -> tuple[Any, Any]:
        """Outputs and running statistics anew."""
        return self.training(variables, *inputs, jax.random.key(0))


def with_float_statistics(workload: Workload, variables: Any, count: int, size: int, seed: int) -> Any:
    """The variables with running statistics of the float network, estimated anew on so many batches of a size: for
    averaged weights, which carry those of the weights that were averaged."""
    training = jax.jit(Undrawn(workload.functions.training))
    batches = FirstBatches(workload.full_batches(size, seed), count, workload.task.arguments)
    fresh = statistics_of(lambda params, inputs: training(params, *inputs)[1], variables, batches)
    return replaced(variables, fresh.values)


def train_float(workload: Workload, how: "FloatSettings", run: Run) -> Any:
    """Variables of the trained float model, which starts from random ones or the checkpoint `init`."""
    init = jax.jit(workload.functions.init, compiler_options=QUICKLY if jax.default_backend() == "cpu" else None)
    variables = dict(init(jax.random.key(how.seed), *workload.example()))
    if how.init is not None:
        variables = initial(how.init, variables)
    trained = _train(workload, variables, how.train, how.seed, how.r_drop, run)
    if how.train_bn_batches is None:
        return trained
    return with_float_statistics(workload, trained, how.train_bn_batches, how.train.batch_size, how.seed)


def train_control(workload: Workload, variables: Any, how: "ControlSettings", run: Run) -> Any:
    """Variables of the float model trained on, with the order of the data that quantized arms see.

    Groups of parameters that the float model has none of, such as learned scales, are left out.
    """
    groups = matching(how.finetune.groups, variables["params"])
    finetune = how.finetune.model_copy(update={"groups": groups})
    trained = _train(workload, variables, finetune, how.seed + OTHER_ORDER, how.r_drop, run)
    if how.finetune_bn_batches is None:
        return trained
    return with_float_statistics(workload, trained, how.finetune_bn_batches, how.batch_size, how.seed)


def _train(workload: Workload, variables: Any, train: TrainConfig, seed: int, r_drop: float | None, run: Run) -> Any:
    state = {name: part for name, part in variables.items() if name != "params"}
    loss = float_loss(workload.task, workload.functions, r_drop)
    result = run.fit(loss, (variables["params"], state), workload, train, seed)
    return {"params": final(result), **result.state}


def final(result: FitResult) -> Any:
    """The weights that count: their average where one was kept."""
    return result.params if result.ema_params is None else result.ema_params
