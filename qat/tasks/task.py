"""The demands of a data set on a model: the inputs that it feeds, the loss that trains, the numbers that count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from qat.registry import Registry

type Batch = Mapping[str, Any]
type Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Task:
    """Pure functions of a batch and of the model's outputs on it.

    `inputs(batch)` are the model's inputs: a tuple of trees of arrays, or one such tree, a dict for example.
    `loss(outputs, batch)` gives the loss and numbers to watch; outputs may be any tree too. `examples(outputs, batch)`
    gives arrays over the examples, `summary` the metrics from those of a whole split;
    `metric` names the main one, of which more is better. `distill(outputs, teacher's)` is a loss of outputs that are
    unlike those of another model; None where a task has none.
    """

    metric: str
    inputs: Callable[[Batch], Any]
    loss: Callable[[Any, Batch], tuple[jax.Array, dict[str, jax.Array]]]
    examples: Callable[[Any, Batch], dict[str, jax.Array]]
    summary: Callable[[Arrays], dict[str, float]]
    distill: Callable[[Any, Any], jax.Array] | None = None

    def arguments(self, batch: Batch) -> tuple[Any, ...]:
        """The model's inputs as its positional arguments; what is no plain tuple is one."""
        found = self.inputs(batch)
        return found if type(found) is tuple else (found,)


tasks: Registry[Task] = Registry("task")
register = tasks.register
