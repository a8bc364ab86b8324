"""The loss and the numbers of a task for a model's functions: in float, simulated and served.

Each is one function object per model (and quantized program), so that all runs share what was compiled for it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from qat.models.adapter import Forward
from qat.tasks import Task


@functools.lru_cache
def float_loss(task: Task, functions: Forward, r_drop: float | None = None) -> Callable[..., Any]:
    """The loss of a float model for `fit`: trains `params`; `state` holds the model's other collections.

    With `r_drop` each batch is evaluated under two draws of dropout; the loss is the mean of their losses plus this
    weight times the mean of the two divergences between their outputs (R-Drop, Liang et al. 2021, arXiv 2106.14448).

    Raises `ValueError` for `r_drop` where the task cannot compare outputs.
    """
    divergence = None if r_drop is None else _divergence(task, "r_drop")

    def loss(params: Any, state: Any, batch: Any, key: jax.Array, *, frozen: bool) -> Any:
        variables, inputs = {"params": params, **state}, task.arguments(batch)
        if frozen:
            outputs, updated = functions.inference(variables, *inputs), {}
        else:
            outputs, updated = functions.training(variables, *inputs, key)
        value, watched = task.loss(outputs, batch)
        if r_drop is not None and divergence is not None and not frozen:
            others, _ = functions.training(variables, *inputs, jax.random.fold_in(key, 1))
            mean = (divergence(outputs, others) + divergence(others, outputs)) / 2
            value = (value + task.loss(others, batch)[0]) / 2 + r_drop * mean
            watched = {**watched, "r_drop": mean}
        return value, ({**state, **updated}, watched)

    return loss


@dataclass(frozen=True)
class Teacher:
    """The float model that a quantized one learns from: the divergence from its outputs is `weight` of the loss, the
    task's own loss the rest."""

    inference: Callable[..., Any]
    weight: float


@functools.lru_cache
def simulated_loss(task: Task, training: Any, inference: Any, teacher: Teacher | None = None) -> Callable[..., Any]:
    """The loss of a quantized model for `fit`, from two programs: trains `{"params", "learned"}`; `state` holds the
    model's other collections under `model` and, which stay, the ranges of calibration under `ranges` and a teacher's
    variables under `teacher`.

    Raises `ValueError` for a teacher where the task cannot compare outputs.
    """
    divergence = None if teacher is None else _divergence(task, "distillation")

    def loss(trainable: Any, state: Any, batch: Any, key: jax.Array, *, frozen: bool) -> Any:
        variables, inputs = {"params": trainable["params"], **state["model"]}, task.arguments(batch)
        ranges = replace(state["ranges"], learned=trainable["learned"])
        if frozen:
            outputs, updated = inference.simulate(variables, ranges, *inputs), {}
        else:
            outputs, updated = training.simulate(variables, ranges, *inputs, key)
        value, watched = task.loss(outputs, batch)
        if teacher is not None and divergence is not None:
            distance = divergence(outputs, teacher.inference(state["teacher"], *inputs))
            value = (1 - teacher.weight) * value + teacher.weight * distance
            watched = {**watched, "distillation": distance}
        return value, ({**state, "model": {**state["model"], **updated}}, watched)

    return loss


@functools.lru_cache
def float_examples(task: Task, inference: Callable[..., Any]) -> Callable[..., Any]:
    """The metrics of each example of a float model, for `per_example`."""
    return lambda variables, batch: task.examples(inference(variables, *task.arguments(batch)), batch)


@functools.lru_cache
def served_examples(task: Task, inference: Any) -> Callable[..., Any]:
    """Per-example metrics of a quantized program's served integers."""
    return lambda int8, batch: task.examples(inference.serve(int8, *task.arguments(batch)), batch)


@functools.lru_cache
def simulated_examples(task: Task, inference: Any) -> Callable[..., Any]:
    """Per-example metrics of a quantized program simulated with variables and ranges, `(variables, ranges)`."""
    return lambda model, batch: task.examples(inference.simulate(*model, *task.arguments(batch)), batch)


def _divergence(task: Task, setting: str) -> Callable[[Any, Any], jax.Array]:
    """The task's divergence between outputs. Raises `ValueError`, naming the setting that needs it, where there is
    none."""
    if task.distill is None:
        raise ValueError(
            f"`{setting}` needs a task that can compare outputs, got that of metric {task.metric.name!r}. Leave it out."
        )
    return task.distill
