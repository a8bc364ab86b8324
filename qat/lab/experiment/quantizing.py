"""The stages that quantize: calibration, and training on with quantization in the loop."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from qat.core.state import QuantState
from qat.lab.experiment.objective import Teacher, simulated_loss
from qat.lab.experiment.training import OTHER_ORDER, Run, Setting, final
from qat.models.adapter import Forward
from qat.ptq.mixed_precision import most_sensitive, raise_layers, sensitivities
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
    distillation: float | None = None,
) -> tuple[Any, QuantState]:
    """Variables and ranges after training on the simulated function, as long as the control and on the same data.

    With `distillation` that part of the loss is how unlike the outputs are to those of the float model, as it is now.
    """
    pair = quantized(where, recipe)
    teacher = None if distillation is None else Teacher(where.functions.inference, distillation)
    loss = simulated_loss(where.task, pair.training.program, pair.inference.program, teacher)
    model = {name: part for name, part in variables.items() if name != "params"}
    state = {"model": model, "ranges": replace(ranges.bare, learned={})}
    state |= {} if teacher is None else {"teacher": jax.tree.map(jnp.copy, variables)}
    start = {"params": variables["params"], "learned": ranges.learned}
    result = run.fit(loss, (start, state), where, finetune, seed + OTHER_ORDER)
    trained = final(result)
    return {"params": trained["params"], **result.state["model"]}, replace(ranges, learned=trained["learned"])
