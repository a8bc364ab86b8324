"""Loss and metric of a classifier, in float, simulated and served.

Each is one function object per model (and quantized program), so that all runs share what was compiled for it.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from qat import models

type Logits = Float[Array, "batch classes"]


@dataclass(frozen=True)
class Forward:
    """The functions of a model: `training` gives logits and new running statistics, `inference` logits alone."""

    init: Callable[[jax.Array, jax.Array], Any]
    training: Callable[[Any, jax.Array], tuple[Logits, Any]]
    inference: Callable[[Any, jax.Array], Logits]


@functools.lru_cache
def forward(model: str, classes: int) -> Forward:
    """The functions of a registered model; the same objects at every call."""
    module = models.build(model, classes=classes)

    def init(key: jax.Array, x: jax.Array) -> Any:
        return module.init(key, x, train=False)

    def training(variables: Any, x: jax.Array) -> tuple[Logits, Any]:
        logits, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return logits, dict(updated)

    def inference(variables: Any, x: jax.Array) -> Logits:
        logits = module.apply(variables, x, train=False)
        assert isinstance(logits, jax.Array)
        return logits

    return Forward(init, training, inference)


@functools.lru_cache
def float_loss(training: Callable[..., Any], inference: Callable[..., Any]) -> Callable[..., Any]:
    """For `fit`: trains `params`; `state` holds the model's other collections."""

    def loss(params: Any, state: Any, batch: Any, key: jax.Array, *, frozen: bool) -> Any:
        del key
        variables = {"params": params, **state}
        logits, updated = (inference(variables, batch["image"]), {}) if frozen else training(variables, batch["image"])
        return _cross_entropy(logits, batch["label"]), ({**state, **updated}, _training_metrics(logits, batch))

    return loss


@functools.lru_cache
def simulated_loss(training: Any, inference: Any) -> Callable[..., Any]:
    """For `fit`, of two quantized programs: trains `{"params", "learned"}`; `state` holds the model's other collections
    under `model` and the ranges of calibration, which stay, under `ranges`."""

    def loss(trainable: Any, state: Any, batch: Any, key: jax.Array, *, frozen: bool) -> Any:
        del key
        variables = {"params": trainable["params"], **state["model"]}
        ranges = replace(state["ranges"], learned=trainable["learned"])
        if frozen:
            logits, updated = inference.simulate(variables, ranges, batch["image"]), {}
        else:
            logits, updated = training.simulate(variables, ranges, batch["image"])
        new_state = {**state, "model": {**state["model"], **updated}}
        return _cross_entropy(logits, batch["label"]), (new_state, _training_metrics(logits, batch))

    return loss


@functools.lru_cache
def float_metric(inference: Callable[..., Any]) -> Callable[..., Any]:
    """For `evaluate`: what counts, of each example."""
    return lambda variables, batch: _test_metrics(inference(variables, batch["image"]), batch["label"])


@functools.lru_cache
def served_metric(inference: Any) -> Callable[..., Any]:
    """The same of a quantized program's served integers."""
    return lambda int8, batch: _test_metrics(inference.serve(int8, batch["image"]), batch["label"])


def _cross_entropy(logits: Logits, label: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()


def _training_metrics(logits: Logits, batch: Any) -> dict[str, jax.Array]:
    return {"accuracy": (logits.argmax(-1) == batch["label"]).mean()}


def _test_metrics(logits: Logits, label: jax.Array) -> dict[str, jax.Array]:
    return {
        "accuracy": (logits.argmax(-1) == label).astype(jnp.float32),
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(logits, label),
    }
