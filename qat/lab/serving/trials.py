"""Finished trials as models behind a server, in integers where they are quantized."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from qat.core.convert import Converted
from qat.lab.inspect.trial import Trial
from qat.lab.serving.images import classifier_form, detector_form, scale_of_files
from qat.lab.serving.servable import Form, Servable, batch_sizes
from qat.lab.serving.texts import text_form
from qat.registry import parse_call
from qat.tasks.detection.decode import detections, detector
from qat.tasks.detection.metrics import THRESHOLD, USUAL_THRESHOLD
from qat.transform import Quantized

MOST_CONSTANTS = 1 << 30  # bytes of weights in all programs of one model
SERVED = ("classification", "detection", "text_classification")


def servable(
    trial: Trial, max_batch: int, *, threshold: float | None = None, pixel_scale: float | None = None
) -> Servable:
    """The model of a finished trial with batches of at most `max_batch`; nothing is compiled yet. See `form_of`."""
    return _servable(trial, form_of(trial, threshold=threshold, pixel_scale=pixel_scale), max_batch)


def form_of(trial: Trial, *, threshold: float | None = None, pixel_scale: float | None = None) -> Form:
    """The way in and out of a finished trial's model.

    `threshold` is the least score of a detector's boxes that are told, by default that of the trial's best F-score.
    `pixel_scale` is what pixels of image files are multiplied by for a classifier, by default found by looking at its
    data set. Raises `ValueError` for a trial of a task that is not served, and where a text classifier's tokenizer,
    which is its data set's, is not on this machine.
    """
    task = parse_call(trial.signature.task)[0]
    if task not in SERVED:
        raise ValueError(
            f"{str(trial.folder)!r} must hold a model of a task in {', '.join(SERVED)}, but its task is {task}."
        )
    if threshold is not None and (task != "detection" or not 0 <= threshold <= 1):
        raise ValueError(f"`threshold` must be in [0, 1] and is for detectors, got {threshold} for {task}.")
    if pixel_scale is not None and task != "classification":
        raise ValueError(f"`pixel_scale` is for classifiers of images, got {pixel_scale} for {task}.")
    return _form(trial, task, threshold, pixel_scale)


def fallback(trial: Trial, beside: Trial, form: Form, max_batch: int) -> Servable:
    """The float model of a finished trial, with the form of the model that it may replace, which is that of `beside`.

    Raises `ValueError` where it is quantized itself, or of other classes or inputs.
    """
    if trial.config.recipe is not None:
        raise ValueError(f"`fallback` must be a float trial, but {str(trial.folder)!r} is {trial.name}.")
    if trial.signature != beside.signature:
        raise ValueError(
            f"`fallback` must be a model of the same task, classes and inputs, but {str(trial.folder)!r} has "
            f"{trial.signature} and {str(beside.folder)!r} {beside.signature}."
        )
    return _servable(trial, form, max_batch)


def _servable(trial: Trial, form: Form, max_batch: int) -> Servable:
    sizes = batch_sizes(max_batch)
    return Servable(trial.name, form, _compute(trial, form.task, len(sizes) * len(form.samples)), sizes)


def _form(trial: Trial, task: str, threshold: float | None, scale: float | None) -> Form:
    if task == "text_classification":
        return text_form(trial.signature, trial.dataset)
    if task == "detection":
        found = trial.record.metrics.get(THRESHOLD, USUAL_THRESHOLD) if threshold is None else threshold
        return detector_form(trial.signature, found)
    dtype = np.dtype(np.float32)
    try:
        example = trial.dataset.splits["train"][0]["image"]
        dtype, known = example.dtype, scale_of_files(trial.dataset)
    except ValueError:  # the data are elsewhere: arrays can still be served
        known = None
    return classifier_form(trial.signature, dtype, known if scale is None else scale)


def _compute(trial: Trial, task: str, programs: int) -> Callable[..., Any]:
    """The function of a trial's model on arrays with a batch axis, compiled at each shape: probabilities, or
    detections. `programs` is the number of shapes."""
    if trial.quantized is None or trial.converted is None:
        network, model = trial.functions.inference, jax.device_put(trial.variables)
        whole = detector(network) if task == "detection" else lambda model, *x: jax.nn.softmax(network(model, *x))
        return functools.partial(jax.jit(whole), model)
    return answering(served(trial.quantized, trial.converted, programs), task)


def answering(network: Callable[..., Any], task: str) -> Callable[..., Any]:
    """The function from arrays to probabilities, or to detections, of a compiled network."""
    if task == "detection":
        decode = jax.jit(detections, static_argnums=(1, 2))
        return lambda images: decode(network(images), *images.shape[1:3])
    softmax = jax.jit(jax.nn.softmax)
    return lambda *arrays: softmax(network(*arrays))


def served(q: Quantized, converted: Converted, programs: int) -> Callable[..., Any]:
    """`q.serve`, with the weights as constants of each of its `programs` where these are small enough together and XLA
    rounds them as it does otherwise."""
    converted = jax.device_put(converted)
    if programs * _constants(q, converted) > MOST_CONSTANTS:
        return functools.partial(q.serve, converted)
    compiled: dict[Any, Callable[..., Any]] = {}

    def run(*arrays: np.ndarray) -> Any:
        shapes = tuple(array.shape for array in arrays)
        if shapes not in compiled:  # in the warm-up
            compiled[shapes] = _compiled(q, converted, arrays)
        return compiled[shapes](*arrays)

    return run


def _compiled(q: Quantized, converted: Converted, arrays: tuple[np.ndarray, ...]) -> Callable[..., Any]:
    """`q.compile` for arrays of these shapes, or `q.serve` where the two do not agree on what is drawn for them."""
    drawn = np.random.default_rng(0)
    examples = [drawn.random(x.shape).astype(x.dtype) if x.dtype.kind == "f" else x for x in arrays]
    try:
        return q.compile(converted, *examples)
    except ValueError:
        return functools.partial(q.serve, converted)


def _constants(q: Quantized, converted: Converted) -> int:
    """The most bytes of weights that a compiled program holds: those that are multiplied with floats are floats
    there."""
    floats = any(
        rule.weights is not None and rule.activations is None and rule.op != "embedding" for rule in q.recipe.all_rules
    )
    return sum(x.size * (4 if floats else x.dtype.itemsize) for x in jax.tree.leaves(converted))
