"""The demands of a data set on a model: the inputs that it feeds, the loss that trains, the numbers that count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qat.registry import Registry
from qat.tasks.metric import Metric, check_metrics

type Batch = Mapping[str, Any]
type Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Pure functions of a batch and of the model's outputs on it.

    `metrics` are the numbers that `summary` gives, the main one first: by it arms are compared and searches go.
    `inputs(batch)` are the model's inputs: a tuple of trees of arrays, or one such tree, a dict for example.
    `loss(outputs, batch)` gives the loss and numbers to watch; outputs may be any tree too. `examples(outputs, batch)`
    gives arrays over the examples, `summary` the metrics from those of a whole split. An array by the main metric's
    name whose mean is that metric lets arms be compared example by example. `distill(outputs, teacher's)` is the
    divergence of outputs from those of another model; None where a task has none.

    Raises `ValueError` unless the main metric has a direction and no two metrics share a name.
    """

    metrics: tuple[Metric, ...]
    inputs: Callable[[Batch], Any]
    loss: Callable[[Any, Batch], tuple[jax.Array, dict[str, jax.Array]]]
    examples: Callable[[Any, Batch], dict[str, jax.Array]]
    summary: Callable[[Arrays], dict[str, float]]
    distill: Callable[[Any, Any], jax.Array] | None = None

    def __post_init__(self) -> None:
        check_metrics(self.metrics)

    @property
    def metric(self) -> Metric:
        """The main metric."""
        return self.metrics[0]

    def arguments(self, batch: Batch) -> tuple[Any, ...]:
        """The model's inputs as its positional arguments; what is no plain tuple is one."""
        found = self.inputs(batch)
        return found if type(found) is tuple else (found,)


def check_task(task: Task, outputs: Any, batch: Batch, size: int) -> None:
    """Raise `ValueError` where a task's loss is no number, or its examples are not one entry for each of `size`.

    `outputs`, those of a model on the batch, may be abstract: nothing is computed.
    """
    found = jax.eval_shape(task.loss, outputs, batch)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise ValueError("a task's `loss` must return (loss, numbers to watch), a pair with a dict.")
    numbers = {"loss": found[0], **found[1]}
    wrong = {name: x for name, x in numbers.items() if getattr(x, "shape", None) != ()}
    if wrong or not jnp.issubdtype(found[0].dtype, jnp.floating):
        came = _shown(wrong or {"loss": found[0]})
        raise ValueError(
            f"a task's `loss` must return numbers, the loss in floating point, got {came}. "
            "Take the mean over the batch."
        )
    arrays = jax.eval_shape(task.examples, outputs, batch)
    if not isinstance(arrays, Mapping):
        raise ValueError(f"a task's `examples` must return a dict of arrays, got a {type(arrays).__name__}.")
    wrong = {name: x for name, x in arrays.items() if getattr(x, "shape", ())[:1] != (size,)}
    if wrong:
        raise ValueError(
            f"a task's `examples` must return arrays with an entry for each of {size} examples, got {_shown(wrong)}. "
            "Return the values before averaging over the batch."
        )


def _shown(arrays: Mapping[str, Any]) -> str:
    return ", ".join(
        f"`{name}` {getattr(x, 'dtype', type(x).__name__)}{list(np.shape(x))}" for name, x in arrays.items()
    )


tasks: Registry[Task] = Registry("task")
"""Tasks by name."""
register = tasks.register
"""Make a function that returns a `Task` known under its name; use as a decorator."""
