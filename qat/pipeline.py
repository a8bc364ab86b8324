"""One experiment, start to end: data, fit in float, calibrate, fit again as the arm says, convert, evaluate, record."""

import functools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

import qat
from qat import data
from qat.config import QUANTIZED, ExperimentConfig, lineage
from qat.manifest import manifest
from qat.objective import Forward, float_loss, float_metric, forward, served_metric, simulated_loss
from qat.record import Record, write_record
from qat.storage import write_atomically
from qat.train import FitResult, TrainConfig, evaluate, fit

MODEL_FILE = "model.safetensors"
OTHER_ORDER = 1_000_003  # training on sees the data in another order than the float stage did


@dataclass(frozen=True)
class FloatStage:
    """All that a float model depends on."""

    model: str
    data: str
    train: TrainConfig
    seed: int


@dataclass(frozen=True)
class Quantized:
    """The quantized functions of a model and the calibrated ranges that both share."""

    training: Any
    inference: Any
    ranges: Any


def run(config: ExperimentConfig, folder: Path, stages: Path, *, trial: str, labels: Mapping[str, str]) -> Record:
    """Run one experiment and record it in `folder`, continuing from checkpoints that are there.

    The float model is trained once per folder `stages` and shared by all experiments that start from the same.
    """
    started = time.monotonic()
    dataset, origin = load(config.data), lineage(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.json", config.model_dump_json(indent=2) + "\n")
    write_atomically(folder / "manifest.json", json.dumps(manifest(config.seed, dataset.fingerprint), indent=2) + "\n")

    functions = forward(config.model, dataset.classes)
    variables = _trained(FloatStage(config.model, config.data, config.train, config.seed), stages / origin.float_stage)
    if config.arm in QUANTIZED:
        metric, model = _quantized_arm(config, functions, variables, folder)
        qat.save(folder / MODEL_FILE, model)
    else:
        metric, model = _float_arm(config, functions, variables, folder)
        _save_float(folder / MODEL_FILE, model)

    record = Record(
        trial=trial,
        labels=dict(labels),
        arm=config.arm,
        recipe=config.recipe,
        seed=config.seed,
        lineage=origin,
        metrics=evaluate(metric, model, data.in_order(dataset.splits["test"], config.evaluation_batch_size)),
        examples=len(dataset.splits["test"]),
        size_bytes=(folder / MODEL_FILE).stat().st_size,
        seconds=round(time.monotonic() - started, 3),
    )
    write_record(folder, record)
    return record


def check(configs: Iterable[ExperimentConfig]) -> None:
    """Raise `ValueError` for what would fail later: data that cannot be read, a recipe that does not fit the model."""
    for model, name, recipe in dict.fromkeys((config.model, config.data, config.recipe) for config in configs):
        dataset = load(name)
        if recipe is not None:
            functions, x = forward(model, dataset.classes), _example(dataset, 1)
            variables = jax.eval_shape(functions.init, jax.random.key(0), x)
            qat.quantize(functions.inference, qat.recipe(recipe)).sites(variables, x)


@functools.lru_cache(maxsize=4)
def load(name: str) -> data.Dataset:
    """A registered data set, kept for the next experiment on it."""
    return data.build(name)


@functools.lru_cache(maxsize=8)
def _trained(stage: FloatStage, folder: Path) -> Any:
    """Variables of the trained float model."""
    dataset = load(stage.data)
    functions = forward(stage.model, dataset.classes)
    variables = dict(jax.jit(functions.init)(jax.random.key(stage.seed), _example(dataset, 1)))
    loss = float_loss(functions.training, functions.inference)
    start = variables.pop("params"), variables
    result = _fit(loss, start, dataset, stage.train, stage.seed, folder, dataset.fingerprint)
    return {"params": _final(result), **result.state}


def _float_arm(config: ExperimentConfig, functions: Forward, variables: Any, folder: Path) -> tuple[Any, Any]:
    """Metric and variables of the arms `float` and `control`."""
    metric = float_metric(functions.inference)
    if config.arm == "float":
        return metric, variables
    loss = float_loss(functions.training, functions.inference)
    state = {name: part for name, part in variables.items() if name != "params"}
    result = _finetune(loss, variables["params"], state, config, folder)
    return metric, {"params": _final(result), **result.state}


def _quantized_arm(config: ExperimentConfig, functions: Forward, variables: Any, folder: Path) -> tuple[Any, Any]:
    """Metric and converted integers of the arms `ptq` and `qat`: the same but for the training in between."""
    dataset = load(config.data)
    q = _calibrated(config, functions, variables)
    if config.arm == "qat":
        loss = simulated_loss(q.training.program, q.inference.program)
        model = {name: part for name, part in variables.items() if name != "params"}
        state = {"model": model, "ranges": replace(q.ranges, learned={}, observers={})}
        result = _finetune(loss, {"params": variables["params"], "learned": q.ranges.learned}, state, config, folder)
        trained = _final(result)
        variables = {"params": trained["params"], **result.state["model"]}
        q = replace(q, ranges=replace(q.ranges, learned=trained["learned"]))
    x = _example(dataset, config.evaluation_batch_size)
    return served_metric(q.inference.program), q.inference.convert(variables, q.ranges, x)


def _calibrated(config: ExperimentConfig, functions: Forward, variables: Any) -> Quantized:
    assert config.recipe is not None
    recipe = qat.recipe(config.recipe)
    inference, training = qat.quantize(functions.inference, recipe), qat.quantize(functions.training, recipe)
    batches = data.Batches(load(config.data).splits["train"], config.train.batch_size, config.seed)
    images = (batches[i]["image"] for i in range(config.calibration_batches))
    return Quantized(training, inference, inference.calibrate(variables, images))


def _finetune(loss: Any, params: Any, state: Any, config: ExperimentConfig, folder: Path) -> FitResult:
    assert config.finetune is not None
    dataset = load(config.data)
    identity = f"{dataset.fingerprint} {lineage(config).float_stage} {config.recipe}"
    return _fit(loss, (params, state), dataset, config.finetune, config.seed + OTHER_ORDER, folder, identity)


def _fit(
    loss: Any, start: tuple[Any, Any], dataset: data.Dataset, train: TrainConfig, seed: int, folder: Path, identity: str
) -> FitResult:
    batches = data.Batches(dataset.splits["train"], train.batch_size, seed)
    train = train.model_copy(update={"seed": seed})
    checkpoints = folder / "checkpoints"
    return fit(loss, *start, batches, train, checkpoints=checkpoints, identity=identity, description=folder.name)


def _final(result: FitResult) -> Any:
    """The weights that count: their average where one was kept."""
    return result.params if result.ema_params is None else result.ema_params


def _example(dataset: data.Dataset, size: int) -> jax.Array:
    return jax.numpy.zeros((size, *dataset.input_shape), jax.numpy.float32)


def _save_float(path: Path, variables: Any) -> None:
    save_file({name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}, path)
