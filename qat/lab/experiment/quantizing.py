"""The stages that quantize: calibration with post-training methods, and training with quantization in the loop."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from qat.core.state import QuantState
from qat.core.statistics import replaced, statistics_of
from qat.lab.experiment.objective import Teacher, simulated_loss
from qat.lab.experiment.training import OTHER_ORDER, FirstBatches, Run, Setting, Undrawn, final
from qat.models.adapter import Forward
from qat.ptq.method import Applied, Subject, apply
from qat.ptq.mixed_precision import most_sensitive, raise_layers, sensitivities
from qat.ptq.reestimate_bn import simulated_update
from qat.recipes.layer_bits import raise_bits
from qat.recipes.recipe import QuantRecipe
from qat.tasks import Task
from qat.train import TrainConfig
from qat.transform import Quantized, quantize

SENSITIVITY_BATCHES = 2


@dataclass(frozen=True)
class Pair:
    """A model's quantized functions: for training and for inference."""

    training: Quantized
    inference: Quantized


def quantized(where: Setting, recipe: QuantRecipe) -> Pair:
    """The setting's functions, quantized by a recipe, with the setting's engine where it has one."""
    return quantized_pair(where.functions, recipe, where.engine)


def quantized_pair(functions: Forward, recipe: QuantRecipe, engine: str | None = None) -> Pair:
    """A model's functions, quantized by a recipe, with an engine by name or the usual ones."""
    engines: dict[str, Any] = {} if engine is None else {"engine": engine, "serving": engine}
    return Pair(quantize(functions.training, recipe, **engines), quantize(functions.inference, recipe, **engines))


@dataclass(frozen=True)
class Calibration:
    """The settings of a calibration: on so many batches; with a `share` the most sensitive layers get 8 bits, as many
    as have that share of the weights.
    """

    batch_size: int
    batches: int
    seed: int
    share: float | None = None


def calibrate(where: Setting, recipe: QuantRecipe, variables: Any, how: Calibration) -> tuple[QuantState, list[str]]:
    """Ranges from the first batches that the float model was trained on, and the paths of the layers that were raised
    to 8 bits."""
    source = where.full_batches(how.batch_size, how.seed)

    def ranges(recipe: QuantRecipe) -> QuantState:
        inputs = (where.task.arguments(source[i]) for i in range(how.batches))
        return quantized(where, recipe).inference.calibrate(variables, inputs)

    state = ranges(recipe)
    if how.share is None:
        return state, []
    q = quantized(where, recipe).inference
    seen = [source[i] for i in range(min(how.batches, SENSITIVITY_BATCHES))]
    batches = [(where.task.arguments(batch), batch) for batch in seen]
    low = [
        site for site in q.sites(variables, *batches[0][0]) if min(site.weight_bits or 8, site.activation_bits or 8) < 8
    ]
    if not low:
        return state, []
    states = state, ranges(raise_bits(recipe, sorted({site.path for site in low})))
    found, total = sensitivities(q, variables, states, batches, _loss(where.task))
    chosen = most_sensitive(found, total, how.share)
    mixed = raise_layers(q, variables, batches[0][0], states, chosen)
    return quantized(where, raise_bits(recipe, chosen)).inference.adopt(mixed), chosen


def post_train(
    where: Setting, recipe: QuantRecipe, variables: Any, ranges: QuantState, methods: Sequence[str], how: Calibration
) -> Applied:
    """Variables and ranges after these post-training methods, on the batches of calibration."""
    source = where.full_batches(how.batch_size, how.seed)
    subject = Subject(
        q=quantized(where, recipe).inference,
        training=_undrawn(where, recipe),
        loss=_loss(where.task),
        targets=FirstBatches(source, how.batches),
        seed=how.seed,
    )
    return apply(methods, subject, variables, ranges, FirstBatches(source, how.batches, where.task.arguments))


def with_statistics(where: Setting, recipe: QuantRecipe, variables: Any, ranges: QuantState, how: Calibration) -> Any:
    """The variables with running statistics of the simulated network, estimated anew on the batches of calibration."""
    batches = FirstBatches(where.full_batches(how.batch_size, how.seed), how.batches, where.task.arguments)
    update = simulated_update(_undrawn(where, recipe), ranges)
    return replaced(variables, statistics_of(update, variables, batches).values)


def _undrawn(where: Setting, recipe: QuantRecipe) -> Quantized:
    """The quantized training function of a model's inputs alone."""
    q = quantized(where, recipe).training
    return replace(q, fn=Undrawn(q.fn))


@functools.lru_cache
def _loss(task: Task) -> Any:
    return lambda outputs, batch: task.loss(outputs, batch)[0]


def train_quantized(
    where: Setting,
    recipe: QuantRecipe,
    variables: Any,
    ranges: QuantState,
    finetune: TrainConfig,
    seed: int,
    run: Run,
    distillation: tuple[float, Any] | None = None,
) -> tuple[Any, QuantState]:
    """Variables and ranges after training on the simulated function, as long as the control and on the same data.

    With `distillation`, a weight and the float model's variables, that part of the loss is how unlike the outputs are
    to those of the float model.
    """
    pair = quantized(where, recipe)
    teacher = None if distillation is None else Teacher(where.functions.inference, distillation[0])
    loss = simulated_loss(where.task, pair.training.program, pair.inference.program, teacher)
    model = {name: part for name, part in variables.items() if name != "params"}
    state = {"model": model, "ranges": replace(ranges.bare, learned={})}
    state |= {} if distillation is None else {"teacher": jax.tree.map(jnp.copy, distillation[1])}
    start = {"params": variables["params"], "learned": ranges.learned}
    result = run.fit(loss, (start, state), where, finetune, seed + OTHER_ORDER)
    trained = final(result)
    return {"params": trained["params"], **result.state["model"]}, replace(ranges, learned=trained["learned"])
