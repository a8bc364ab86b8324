"""The detector that a trial left in its folder, ready to run; the data that it was trained on are not needed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from qat.lab.inspect.trial import Trial, read_finished
from qat.lab.runs.files import STAGES
from qat.lab.runs.manifest import Signature
from qat.lab.runs.models import model_file, read_result
from qat.lab.runs.study_folder import root_of
from qat.tasks.detection.decode import Detections, detector
from qat.tasks.detection.metrics import THRESHOLD, USUAL_THRESHOLD

KIND = ("detection", "a detector")


@dataclass(frozen=True)
class Detector:
    """A detector by the name of its arm. `find(image)` gives the detections, best first, on one example's `image`;
    `threshold` is the score from which on they are right most of the time."""

    name: str
    signature: Signature
    threshold: float
    find: Callable[[np.ndarray], Detections]


def load_detector(folder: str | Path, *, trust: bool = False) -> Detector:
    """The detector of a finished trial, served in integers where it is quantized.

    Files of its study that it needs are run where they are in the current project, or by `trust`. Raises `ValueError`
    where they are not, for a folder that is no finished trial of a detector, and for a model that does not fit its
    config or its classes.
    """
    trial = read_finished(folder, *KIND, trust=trust)
    path = model_file(trial.folder)
    if trial.quantized is None or trial.converted is None:
        _check_fits(trial, trial.variables, path)
        return _detector(trial.name, trial, trial.functions.inference, trial.variables)
    _check_fits(trial, trial.converted.structure.abstract, path)
    return _detector(trial.name, trial, trial.quantized.serve, trial.converted)


def load_float_stage(folder: str | Path, *, trust: bool = False) -> Detector:
    """The float model that the trial in `folder` started from, out of the stages of its study."""
    trial = read_finished(folder, *KIND, trust=trust)
    stage = root_of(trial.folder) / STAGES / f"float-{trial.record.stages.get('float')}"
    try:
        variables = read_result(stage)["variables"]
    except FileNotFoundError:
        raise ValueError(
            f"the float model that {str(folder)!r} started from is not in {str(stage)!r}. "
            "Name the folder of a float trial instead."
        ) from None
    _check_fits(trial, variables, stage)
    return _detector("float", trial, trial.functions.inference, variables)


def _detector(name: str, trial: Trial, network: Any, variables: Any) -> Detector:
    detect = jax.jit(detector(network))

    def find(image: np.ndarray) -> Detections:
        scaled = np.float32(trial.signature.scale) * image.astype(np.float32)
        found = jax.device_get(detect(variables, scaled[None]))
        return Detections(*(part[0] for part in found))

    return Detector(name, trial.signature, trial.record.metrics.get(THRESHOLD, USUAL_THRESHOLD), find)


def _check_fits(trial: Trial, variables: Any, path: Path) -> None:
    """Raise `ValueError` where variables are of other shapes than the model of the config has for its classes."""
    about = trial.signature
    image = jax.ShapeDtypeStruct((1, *about.input_shape), np.float32)
    expected = _shapes(jax.eval_shape(trial.functions.init, jax.random.key(0), image))
    found = _shapes(variables)
    other = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if other:
        raise ValueError(
            f"{str(path)!r} does not fit its trial: {other[0]} is of shape {found.get(other[0])}, but "
            f"{trial.config.model} with {about.classes} classes and images of shape {about.input_shape} has "
            f"{expected.get(other[0])}. One of the files is of another model, width or class map."
        )


def _shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    leaves: dict[str, Any] = flatten_dict(dict(variables), sep="/")
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}
