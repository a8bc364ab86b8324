"""The last stage: a trained model, quantized as its arm says, measured on the test split and recorded."""

import hashlib
import io
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

from qat import data
from qat.analysis import layer_statistics
from qat.core.state import QuantState
from qat.export.safetensors import save
from qat.export.trees import check_content, finished, refusing_damage, save_examples
from qat.fileio import write_atomically
from qat.lab.experiment.objective import float_examples, served_examples
from qat.lab.experiment.provenance import did
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.training import Setting
from qat.lab.jobs.threads import cores
from qat.lab.runs.files import EXAMPLES_FILE, LAYERS_FILE, MODEL_FILE
from qat.lab.runs.record import Record, write_record
from qat.recipes.layer_bits import raise_bits
from qat.runtime import shortest

if TYPE_CHECKING:
    from qat.lab.experiment.config import ExperimentConfig


@dataclass(frozen=True)
class Trained:
    """The result of training: the variables, of a quantized arm also the ranges and the layers raised to 8 bits."""

    variables: Any
    ranges: QuantState | None = None
    raised: tuple[str, ...] = ()


def measure(
    where: Setting, config: "ExperimentConfig", trained: Trained, folder: Path, about: Mapping[str, Any]
) -> Record:
    """Write the model, its outcome on every test example and its layers into `folder`, then the record, which takes
    `about` as it is."""
    started = time.monotonic()
    model, examples, serve = _deployed(where, config, trained, folder)
    arrays = where.outcomes(examples, model, "test", config.evaluation_batch_size)
    save_examples(folder / EXAMPLES_FILE, arrays)
    metrics = where.task.summary(arrays)
    for split in config.more_splits:
        more = where.task.summary(where.outcomes(examples, model, split, config.evaluation_batch_size))
        metrics |= {f"{split}/{name}": value for name, value in more.items()}
    timings = _latency(where, config, trained, model, serve)
    record = Record(
        **about,
        arm=config.arm,
        recipe=config.recipe_name,
        raised=trained.raised,
        did=did(config, trained.raised),
        seed=config.seed,
        task_metrics=where.task.metrics,
        metrics=metrics,
        examples=len(where.dataset.splits["test"]),
        size_bytes=len((folder / MODEL_FILE).read_bytes()),
        program=_program(where, config, model, serve) if timings else "",
        timings={"seconds": round(time.monotonic() - started, 3), **timings},
    )
    write_record(folder, record)
    return record


def serialized_variables(variables: Any) -> bytes:
    """The file of a float trial's model: nested dicts of arrays, each array under its path."""
    flat = flatten_dict(variables, sep="/")
    return finished(serialize({name: np.asarray(leaf) for name, leaf in flat.items()}))


def load_variables(path: Path) -> Any:
    """The variables in the file of a float trial's model. Raises `ValueError` where it is damaged."""
    with refusing_damage(path, "Run the sweep again: it redoes this trial alone."):
        content = path.read_bytes()
        check_content(io.BytesIO(content))
        return unflatten_dict(deserialize(content), sep="/")


def _deployed(where: Setting, config: "ExperimentConfig", trained: Trained, folder: Path) -> tuple[Any, Any, Any]:
    """The model as it is deployed and stored, its outcome by example, and its outputs from itself and inputs."""
    path, float_fn = folder / MODEL_FILE, where.functions.inference
    if trained.ranges is None:
        write_atomically(path, serialized_variables(trained.variables))
        return trained.variables, float_examples(where.task, float_fn), jax.jit(float_fn)
    assert config.rules is not None
    q = quantized(where, raise_bits(config.rules, trained.raised)).inference
    if config.analysis_batches:
        source = data.in_order(where.dataset.splits["test"], config.evaluation_batch_size)
        inputs = [where.task.arguments(batch) for _, batch in zip(range(config.analysis_batches), source, strict=False)]
        layers = layer_statistics(q, trained.variables, trained.ranges, inputs)
        write_atomically(folder / LAYERS_FILE, layers.to_json())
    int8 = q.convert(trained.variables, trained.ranges, *where.example(config.evaluation_batch_size))
    save(path, int8)
    return int8, served_examples(where.task, q.program), q.serve


def _latency(where: Setting, config: "ExperimentConfig", trained: Trained, model: Any, serve: Any) -> dict[str, float]:
    """Milliseconds of one call of the deployed model and of the float one, and how many times faster the first is."""
    if config.latency_batch_size is None:
        return {}
    x, float_fn = where.example(config.latency_batch_size), jax.jit(where.functions.inference)
    calls = {"float": lambda: float_fn(trained.variables, *x)}
    if trained.ranges is not None:
        calls["served"] = lambda: serve(model, *x)
    times = shortest(calls)
    served = times.get("served", times["float"])
    faster = sorted(float_ / own for float_, own in zip(times["float"], served, strict=True))
    low, median, high = statistics.quantiles(faster, n=4)
    return {
        "latency_ms": 1e3 * statistics.median(served),
        "float_latency_ms": 1e3 * statistics.median(times["float"]),
        "latency_batch": config.latency_batch_size,
        "faster": median,
        "faster_low": low,
        "faster_high": high,
        "faster_parts": len(faster),
        "cores": len(cores()),
    }


def _program(where: Setting, config: "ExperimentConfig", model: Any, serve: Any) -> str:
    """A digest of what is compiled for a timed call: bits and weights are data in it."""
    text = jax.jit(serve).lower(model, *where.example(config.latency_batch_size or 1)).as_text()
    return hashlib.sha256(text.encode()).hexdigest()[:12]
