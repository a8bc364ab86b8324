"""The last stage: a trained model, quantized as its arm says, measured on the test split and recorded."""

import hashlib
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from qat import data
from qat.analysis import layer_statistics, operations
from qat.core.state import QuantState
from qat.lab.experiment.exports import write_exports
from qat.lab.experiment.objective import float_examples, served_examples
from qat.lab.experiment.provenance import provenance
from qat.lab.experiment.quantizing import quantized
from qat.lab.experiment.recipe import resolved
from qat.lab.experiment.training import Workload
from qat.lab.jobs.threads import cores
from qat.lab.runs.examples import save_examples
from qat.lab.runs.layers import write_layers
from qat.lab.runs.models import write_model
from qat.lab.runs.record import Record, write_record
from qat.runtime import shortest
from qat.transform import Quantized

if TYPE_CHECKING:
    from qat.lab.experiment.config import ExperimentConfig


@dataclass(frozen=True)
class Trained:
    """The result of training: the variables, of a quantized arm also the ranges, the sensitive layers with 8 bits, the
    accounts of post-training methods, and the data of the bits that were chosen within a budget."""

    variables: Any
    ranges: QuantState | None = None
    high_bit_layers: tuple[str, ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    allocation: dict[str, Any] | None = None


def measure(
    workload: Workload, config: "ExperimentConfig", trained: Trained, folder: Path, about: Mapping[str, Any]
) -> Record:
    """Write the model, its outcome on every test example and its layers into `folder`, then the record, which takes
    `about` as it is."""
    started = time.monotonic()
    model, examples, serve = _deployed(workload, config, trained, folder)
    size = write_model(folder, model)
    arrays = workload.outcomes(examples, model, "test", config.evaluation_batch_size)
    save_examples(folder, arrays)
    metrics = workload.task.summary(arrays)
    for split in config.more_splits:
        more = workload.task.summary(workload.outcomes(examples, model, split, config.evaluation_batch_size))
        metrics |= {f"{split}/{name}": value for name, value in more.items()}
    bits = _operations(workload, config, trained)
    timings = _latency(workload, config, trained, model, serve)
    fn = workload.functions.inference if trained.ranges is None else _quantized(workload, config, trained)
    record = Record(
        **about,
        arm=config.arm,
        recipe=config.recipe_name,
        high_bit_layers=trained.high_bit_layers,
        allocation=trained.allocation,
        ptq=trained.steps,
        operations=bits,
        provenance=provenance(config, trained.high_bit_layers, trained.steps, bits, trained.allocation),
        seed=config.seed,
        task_metrics=workload.task.metrics,
        metrics=metrics,
        examples=len(workload.dataset.splits["test"]),
        size_bytes=size,
        exports=write_exports(folder, config.exports, workload, fn, model, (trained.variables, trained.ranges)),
        program=_program(workload, config, model, serve) if timings else "",
        timings={"seconds": round(time.monotonic() - started, 3), **timings},
    )
    write_record(folder, record)
    return record


def _deployed(workload: Workload, config: "ExperimentConfig", trained: Trained, folder: Path) -> tuple[Any, Any, Any]:
    """The model as it is deployed, its outcome by example, and its outputs from itself and inputs; the statistics of a
    quantized one's layers are written."""
    float_fn = workload.functions.inference
    if trained.ranges is None:
        return trained.variables, float_examples(workload.task, float_fn), jax.jit(float_fn)
    q = _quantized(workload, config, trained)
    if config.analysis_batches:
        source = data.in_order(workload.dataset.splits["test"], config.evaluation_batch_size)
        inputs = [
            workload.task.arguments(batch) for _, batch in zip(range(config.analysis_batches), source, strict=False)
        ]
        layers = layer_statistics(q, trained.variables, trained.ranges, inputs)
        write_layers(folder, layers)
    int8 = q.convert(trained.variables, trained.ranges, *workload.example(config.evaluation_batch_size))
    return int8, served_examples(workload.task, q.program), q.serve


def _quantized(workload: Workload, config: "ExperimentConfig", trained: Trained) -> Quantized:
    assert config.rules is not None
    return quantized(workload, resolved(config.rules, trained.high_bit_layers, trained.allocation)).inference


def _operations(workload: Workload, config: "ExperimentConfig", trained: Trained) -> dict[str, float]:
    """The share of multiplications at each pair of bits, for one example; empty of a model in float."""
    if trained.ranges is None:
        return {}
    q = _quantized(workload, config, trained)
    return operations(q, trained.variables, trained.ranges, *workload.example())


def _latency(
    workload: Workload, config: "ExperimentConfig", trained: Trained, model: Any, serve: Any
) -> dict[str, float]:
    """Milliseconds of one call of the deployed model and of the float one, and how many times faster the first is."""
    if config.latency_batch_size is None:
        return {}
    x, float_fn = workload.example(config.latency_batch_size), jax.jit(workload.functions.inference)
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


def _program(workload: Workload, config: "ExperimentConfig", model: Any, serve: Any) -> str:
    """A digest of what is compiled for a timed call: bits and weights are data in it."""
    text = jax.jit(serve).lower(model, *workload.example(config.latency_batch_size or 1)).as_text()
    return hashlib.sha256(text.encode()).hexdigest()[:12]
