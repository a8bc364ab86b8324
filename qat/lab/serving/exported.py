"""An exported file of a finished trial behind a server: the trial tells how inputs are read, the file computes."""

import functools
from pathlib import Path

import numpy as np

from qat.export.description import read_description
from qat.export.exported import read
from qat.export.exporter import DYNAMIC
from qat.export.runnable import Runnable
from qat.lab.experiment.parity import is_decoded
from qat.lab.inspect.trial import Trial
from qat.lab.serving.servable import Form, Servable, batch_sizes
from qat.lab.serving.trials import answering
from qat.tasks.detection.decode import Detections


def in_file(form: Form, trial: Trial, file: Path, max_batch: int) -> Servable:
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
    decoded = is_decoded(description)
    compute = functools.partial(_decoded, program) if decoded else answering(program, form.task)
    return Servable(f"{trial.name} in {file.name}", form, compute, sizes)


def _decoded(program: Runnable, images: np.ndarray) -> Detections:
    """Detections, which a runtime of ONNX files gives by the outputs' names in their order."""
    found = program(images)
    return found if isinstance(found, Detections) else Detections(*found.values())
