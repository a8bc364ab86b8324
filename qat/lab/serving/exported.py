"""An exported file of a finished trial behind a server: the trial tells how inputs are read, the file computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from qat.export.description import Description, read_description
from qat.export.exported import read
from qat.export.exporter import DYNAMIC
from qat.export.runnable import Runnable
from qat.lab.experiment.parity import is_decoded
from qat.lab.inspect.trial import Trial
from qat.lab.serving.servable import Servable, batch_sizes
from qat.tasks.detection.decode import Detections, detections


def in_file(model: Servable, trial: Trial, file: Path, max_batch: int) -> Servable:
    """The model of a trial as an exported file computes it, with batches of at most `max_batch`, or of the one size
    that the file has.

    Raises `ValueError` for a file that is damaged, of another model or no program, that has larger batches than
    `max_batch`, or whose runtime is not installed.
    """
    description = read_description(file)
    program = read(file, trial.variables if trial.quantized is None else trial.converted)
    if not isinstance(program, Runnable):
        raise ValueError(f"{str(file)!r} is no program but a {description.kind} file. Export to onnx or stablehlo.")
    sizes = batch_sizes(max_batch)
    if description.batch != DYNAMIC:
        sizes = (int(description.batch),)
        if sizes[0] > max_batch:
            raise ValueError(
                f"`--max-batch` must be at least {sizes[0]}, the batch of {str(file)!r}, got {max_batch}. Raise it, or "
                "export with --batch dynamic."
            )
    compute = _compute(program, description, model.form.task)
    return Servable(f"{trial.name} in {file.name}", model.form, compute, sizes)


def _compute(program: Runnable, description: Description, task: str) -> Callable[..., Any]:
    """Probabilities, or detections, of arrays with a batch axis."""
    if task != "detection":
        softmax = jax.jit(jax.nn.softmax)
        return lambda *arrays: softmax(program(*arrays))
    if is_decoded(description):
        return lambda *arrays: _as_detections(program(*arrays))
    decode = jax.jit(detections, static_argnums=(1, 2))
    return lambda images: decode(program(images), *images.shape[1:3])


def _as_detections(outputs: Any) -> Detections:
    """Detections, which a runtime of ONNX files gives by the outputs' names in their order."""
    return outputs if isinstance(outputs, Detections) else Detections(*jax.tree.leaves(tuple(dict(outputs).values())))
