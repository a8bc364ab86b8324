"""The last stage: a trained model, quantized as its arm says, measured on the test split and recorded."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save as serialize

from qat import data
from qat.analysis import layer_statistics
from qat.artifact import finished, save_examples
from qat.files import EXAMPLES_FILE, LAYERS_FILE, MODEL_FILE
from qat.latency import medians
from qat.objective import float_examples, served_examples
from qat.pipeline.did import did
from qat.pipeline.quantizing import quantized
from qat.pipeline.training import Setting
from qat.presets import raised
from qat.record import Record, write_record
from qat.state import QuantState
from qat.storage import write_atomically
from qat.store import save

if TYPE_CHECKING:
    from qat.config import ExperimentConfig


@dataclass(frozen=True)
class Trained:
    """What training left: the variables, of a quantized arm also the ranges and the layers raised to 8 bits."""

    variables: Any
    ranges: QuantState | None = None
    raised: tuple[str, ...] = ()


def measure(
    where: Setting, config: "ExperimentConfig", trained: Trained, folder: Path, about: Mapping[str, Any]
) -> Record:
    """Write the model, its outcome on every test example and its layers into `folder`, then the record, which takes
    `about` as it is."""
    started = time.monotonic()
    model, examples, infer = _deployed(where, config, trained, folder)
    arrays = where.outcomes(examples, model, "test", config.evaluation_batch_size)
    save_examples(folder / EXAMPLES_FILE, arrays)
    metrics = where.task.summary(arrays)
    for split in config.more_splits:
        more = where.task.summary(where.outcomes(examples, model, split, config.evaluation_batch_size))
        metrics |= {f"{split}/{name}": value for name, value in more.items()}
    timings = _latency(where, config, trained, infer)
    record = Record(
        **about,
        arm=config.arm,
        recipe=config.recipe,
        raised=trained.raised,
        did=did(config, trained.raised),
        seed=config.seed,
        metric=where.task.metric,
        metrics=metrics,
        examples=len(where.dataset.splits["test"]),
        size_bytes=len((folder / MODEL_FILE).read_bytes()),
        timings={"seconds": round(time.monotonic() - started, 3), **timings},
    )
    write_record(folder, record)
    return record


def _deployed(where: Setting, config: "ExperimentConfig", trained: Trained, folder: Path) -> tuple[Any, Any, Any]:
    """The model as it is deployed and stored, its outcome by example, and its outputs on inputs."""
    path, float_fn = folder / MODEL_FILE, where.functions.inference
    if trained.ranges is None:
        flat = flatten_dict(trained.variables, sep="/")
        write_atomically(path, finished(serialize({name: np.asarray(leaf) for name, leaf in flat.items()})))
        return trained.variables, float_examples(where.task, float_fn), jax.jit(float_fn)
    assert config.recipe is not None
    q = quantized(where, raised(config.recipe, trained.raised)).inference
    if config.analysis_batches:
        source = data.in_order(where.dataset.splits["test"], config.evaluation_batch_size)
        inputs = [where.task.inputs(batch) for _, batch in zip(range(config.analysis_batches), source, strict=False)]
        layers = layer_statistics(q, trained.variables, trained.ranges, inputs)
        write_atomically(folder / LAYERS_FILE, layers.to_json())
    int8 = q.convert(trained.variables, trained.ranges, *where.example(config.evaluation_batch_size))
    save(path, int8)
    return int8, served_examples(where.task, q.program), lambda *inputs: q.serve(int8, *inputs)


def _latency(where: Setting, config: "ExperimentConfig", trained: Trained, infer: Any) -> dict[str, float]:
    """Milliseconds of one call of the deployed model and of the float one, in turns."""
    if config.latency_batch_size is None:
        return {}
    x, float_fn = where.example(config.latency_batch_size), jax.jit(where.functions.inference)
    calls = {"float_latency_ms": lambda: float_fn(trained.variables, *x)}
    if trained.ranges is not None:
        calls["latency_ms"] = lambda: infer(*x)
    times = {name: 1e3 * seconds for name, seconds in medians(calls).items()}
    return {"latency_ms": times["float_latency_ms"], **times, "latency_batch": config.latency_batch_size}
