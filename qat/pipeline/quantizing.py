"""The stages that quantize: calibration, and training on with quantization in the loop."""

from dataclasses import dataclass, replace
from typing import Any

from qat.objective import simulated_loss
from qat.pipeline.training import OTHER_ORDER, Run, Setting, final
from qat.recipes import recipe as build_recipe
from qat.state import QuantState
from qat.train import TrainConfig
from qat.transform import Quantized, quantize


@dataclass(frozen=True)
class Pair:
    """A model's quantized functions: for training and for inference."""

    training: Quantized
    inference: Quantized


def quantized(where: Setting, recipe: str) -> Pair:
    """The setting's functions, quantized by a recipe's name."""
    built = build_recipe(recipe)
    return Pair(quantize(where.functions.training, built), quantize(where.functions.inference, built))


def calibrate(where: Setting, recipe: str, variables: Any, batch_size: int, batches: int, seed: int) -> QuantState:
    """Ranges from the first batches that the float model was trained on."""
    source = where.batches(batch_size, seed)
    inputs = (where.task.inputs(source[i]) for i in range(batches))
    return quantized(where, recipe).inference.calibrate(variables, inputs)


def train_quantized(
    where: Setting, recipe: str, variables: Any, ranges: QuantState, finetune: TrainConfig, seed: int, run: Run
) -> tuple[Any, QuantState]:
    """Variables and ranges after training on the simulated function, as long as the control and on the same data."""
    pair = quantized(where, recipe)
    loss = simulated_loss(where.task, pair.training.program, pair.inference.program)
    model = {name: part for name, part in variables.items() if name != "params"}
    state = {"model": model, "ranges": replace(ranges, learned={}, observers={})}
    start = {"params": variables["params"], "learned": ranges.learned}
    result = run.fit(loss, (start, state), where, finetune, seed + OTHER_ORDER)
    trained = final(result)
    return {"params": trained["params"], **result.state["model"]}, replace(ranges, learned=trained["learned"])
