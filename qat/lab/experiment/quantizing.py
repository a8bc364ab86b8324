"""The stages that quantize: calibration with post-training methods, and training with quantization in the loop."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from qat import data
from qat.core.state import QuantState
from qat.core.statistics import replaced, statistics_of
from qat.export import fold
from qat.lab.experiment.objective import Teacher, simulated_loss
from qat.lab.experiment.training import OTHER_ORDER, FirstBatches, Run, Undrawn, Workload, final
from qat.models.adapter import Forward
from qat.ptq.allocation import Allocation, allocate
from qat.ptq.budget import budget_of
from qat.ptq.method import Applied, Subject, apply
from qat.ptq.mixed_precision import most_sensitive, raise_layers, sensitivities
from qat.ptq.reestimate_bn import simulated_update
from qat.ptq.sensitivity import WIDTHS, Batch, Setup, set_up
from qat.recipes.layer_bits import raise_bits
from qat.recipes.recipe import QuantRecipe
from qat.tasks import Task
from qat.train import TrainConfig
from qat.transform import Quantized, quantize

SENSITIVITY_BATCHES = 2
CHOOSING_BATCHES, HELD_OUT = 4, 8  # batches that bits are chosen on, and compared on


@dataclass(frozen=True)
class TrainAndEval:
    """A model's quantized functions, for training and for inference."""

    training: Quantized
    inference: Quantized


def quantized(workload: Workload, recipe: QuantRecipe) -> TrainAndEval:
    """The workload's functions, quantized by a recipe, with the workload's engine where it has one."""
    return quantized_functions(workload.functions, recipe, workload.engine, fold_norms=workload.fold_norms)


@dataclass(frozen=True)
class Still:
    """A training function that is the one of inference: it draws nothing, and the statistics stay as they are."""

    inference: Callable[..., Any]

    def __call__(self, variables: Any, *inputs: Any) -> tuple[Any, Any]:
        """Outputs, and no collection that changed; the last of `inputs` is the key of what is random."""
        return self.inference(variables, *inputs[:-1]), {}


def quantized_functions(
    functions: Forward, recipe: QuantRecipe, engine: str | None = None, *, fold_norms: bool = False
) -> TrainAndEval:
    """A model's functions, quantized by a recipe, with an engine by name or the default ones; with `fold_norms` both
    are the function of inference with its norms folded."""
    engines: dict[str, Any] = {} if engine is None else {"engine": engine, "serving": engine}
    training, inference = functions.training, functions.inference
    if fold_norms:
        inference = fold.fold_norms(inference)
        training = Still(inference)
    return TrainAndEval(quantize(training, recipe, **engines), quantize(inference, recipe, **engines))


@dataclass(frozen=True)
class Calibration:
    """The settings of a calibration: on so many batches; with a `share` the most sensitive layers get 8 bits, as many
    as have that share of the weights.
    """

    batch_size: int
    batches: int
    seed: int
    share: float | None = None


def calibrate(
    workload: Workload, recipe: QuantRecipe, variables: Any, how: Calibration
) -> tuple[QuantState, list[str]]:
    """Ranges from the first batches that the float model was trained on, and the paths of the layers that were raised
    to 8 bits."""
    source = workload.full_batches(how.batch_size, how.seed)

    def ranges(recipe: QuantRecipe) -> QuantState:
        inputs = (workload.task.arguments(source[i]) for i in range(how.batches))
        return quantized(workload, recipe).inference.calibrate(variables, inputs)

    state = ranges(recipe)
    if how.share is None:
        return state, []
    q = quantized(workload, recipe).inference
    seen = [source[i] for i in range(min(how.batches, SENSITIVITY_BATCHES))]
    batches = [(workload.task.arguments(batch), batch) for batch in seen]
    low = [
        site for site in q.sites(variables, *batches[0][0]) if min(site.weight_bits or 8, site.activation_bits or 8) < 8
    ]
    if not low:
        return state, []
    states = state, ranges(raise_bits(recipe, sorted({site.path for site in low})))
    found, total = sensitivities(q, variables, states, batches, _loss(workload.task))
    chosen = most_sensitive(found, total, how.share)
    mixed = raise_layers(q, variables, batches[0][0], states, chosen)
    return quantized(workload, raise_bits(recipe, chosen)).inference.adopt(mixed), chosen


def allocated(workload: Workload, recipe: QuantRecipe, variables: Any, how: Calibration, budget: str) -> Allocation:
    """Bits for each layer within a budget, chosen on batches of training and compared on others: of the validation
    split, or where that is empty further ones of training."""
    setup, held_out = sensitivity_setup(workload, recipe, variables, how)
    return allocate(setup, budget_of(budget), held_out)


def sensitivity_setup(
    workload: Workload, recipe: QuantRecipe, variables: Any, how: Calibration, widths: Sequence[int] = WIDTHS
) -> tuple[Setup, list[Batch]]:
    """The ranges and batches for the choice of bits: calibrated on the batches of calibration, measured on the first of
    these; and batches held out from it."""
    source, task = workload.full_batches(how.batch_size, how.seed), workload.task
    seen = [source[i] for i in range(min(how.batches, CHOOSING_BATCHES))]
    split = workload.dataset.splits.get("validation", ())
    if len(split):
        held_out = [batch for batch, _ in zip(data.in_order(split, how.batch_size), range(HELD_OUT), strict=False)]
    else:
        held_out = [source[how.batches + i] for i in range(HELD_OUT)]
    seen, held_out = ([(task.arguments(batch), batch) for batch in some] for some in (seen, held_out))
    inputs = FirstBatches(source, how.batches, task.arguments)
    return set_up(quantized(workload, recipe).inference, variables, inputs, seen, _loss(task), widths), held_out


def post_train(
    workload: Workload,
    recipe: QuantRecipe,
    variables: Any,
    ranges: QuantState,
    methods: Sequence[str],
    how: Calibration,
) -> Applied:
    """Variables and ranges after these post-training methods, on the batches of calibration."""
    source = workload.full_batches(how.batch_size, how.seed)
    subject = replace(subject_of(workload, recipe), targets=FirstBatches(source, how.batches), seed=how.seed)
    return apply(methods, subject, variables, ranges, FirstBatches(source, how.batches, workload.task.arguments))


def subject_of(workload: Workload, recipe: QuantRecipe) -> Subject:
    """The workload's functions for post-training methods, with no batch yet."""
    q, training = quantized(workload, recipe).inference, _undrawn(workload, recipe)
    return Subject(q, training, loss=_loss(workload.task), targets=())


def with_statistics(
    workload: Workload, recipe: QuantRecipe, variables: Any, ranges: QuantState, how: Calibration
) -> Any:
    """The variables with running statistics of the simulated network, estimated anew on the batches of calibration."""
    batches = FirstBatches(workload.full_batches(how.batch_size, how.seed), how.batches, workload.task.arguments)
    update = simulated_update(_undrawn(workload, recipe), ranges)
    return replaced(variables, statistics_of(update, variables, batches).values)


def _undrawn(workload: Workload, recipe: QuantRecipe) -> Quantized:
    """The quantized training function of a model's inputs alone."""
    q = quantized(workload, recipe).training
    return replace(q, fn=Undrawn(q.fn))


@functools.lru_cache
def _loss(task: Task) -> Any:
    return lambda outputs, batch: task.loss(outputs, batch)[0]


def train_quantized(
    workload: Workload,
    recipe: QuantRecipe,
    variables: Any,
    ranges: QuantState,
    finetune: TrainConfig,
    seed: int,
    run: Run,
    distillation: tuple[float, Any] | None = None,
) -> tuple[Any, QuantState]:
    """Variables and ranges after training on the simulated function, as long as the control and on the same data.

    With `distillation`, a weight and the float model's variables, this part of the loss is the divergence of the
    outputs from those of the float model.
    """
    functions = quantized(workload, recipe)
    teacher = None if distillation is None else Teacher(workload.functions.inference, distillation[0])
    loss = simulated_loss(workload.task, functions.training.program, functions.inference.program, teacher)
    model = {name: part for name, part in variables.items() if name != "params"}
    state = {"model": model, "ranges": replace(ranges.bare, learned={})}
    state |= {} if distillation is None else {"teacher": jax.tree.map(jnp.copy, distillation[1])}
    start = {"params": variables["params"], "learned": ranges.learned}
    result = run.fit(loss, (start, state), workload, finetune, seed + OTHER_ORDER)
    trained = final(result)
    return {"params": trained["params"], **result.state["model"]}, replace(ranges, learned=trained["learned"])
