"""Optimizers by name: optax transformations that leave the learning rate to the step, which gets it as data."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from pydantic import BaseModel, ConfigDict, Field, field_validator

from qat.registry import Registry

type Schedule = Callable[[float], float]

schedules: Registry[Schedule] = Registry("schedule")
"""Schedules of the learning rate by name: its share of the peak at a share of the steps."""


@schedules.register
def cosine(end: float = 0.0) -> Schedule:
    """Half a cosine from 1 at progress 0 to `end` at progress 1 (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    return lambda progress: end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


@schedules.register
def linear(end: float = 0.0) -> Schedule:
    """A straight line from 1 at progress 0 to `end` at progress 1."""
    return lambda progress: 1 - (1 - end) * progress


@schedules.register
def constant() -> Schedule:
    """1 at any progress."""
    return lambda _progress: 1.0


class Hyper(NamedTuple):
    """Scalars of fixed dtype, numpy's here and tracers in the step: no value of them compiles another program."""

    step: Any
    seed: Any
    learning_rate: Any
    weight_decay: Any
    clip_norm: Any
    ema_decay: Any


def warmed_up(schedule: Schedule, warmup_steps: int, steps: int) -> Callable[[int], float]:
    """The factor of each step: `1/warmup_steps` at step 0, 1 once warmed up, then `schedule` to the end."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return schedule((step - warmup_steps) / (steps - warmup_steps))

    return factor


def ramped(decay: float, step: int) -> float:
    """`decay`, but less in the first steps, so that an average soon forgets where training started."""
    return min(decay, (1 + step) / (10 + step))


REST = "rest"
ADAM_RMS = 0.2  # root mean square of AdamW's updates, which Muon's are scaled to (Liu et al. 2025, arXiv 2502.16982)

optimizers: Registry[optax.GradientTransformation] = Registry("optimizer")
"""Optimizers by name."""


@optimizers.register
def adamw(
    weight_decay: float | jax.Array, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
    return optax.chain(optax.scale_by_adam(b1, b2, eps), decay(weight_decay))


@optimizers.register
def adam(
    weight_decay: float | jax.Array, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980); the decay is part of the gradient."""
    return optax.chain(decay(weight_decay), optax.scale_by_adam(b1, b2, eps))


@optimizers.register
def sgd(weight_decay: float | jax.Array, momentum: float = 0.9, nesterov: bool = False) -> optax.GradientTransformation:
    """Gradient descent with momentum; the decay is part of the gradient, as is usual for convolutional networks."""
    return optax.chain(decay(weight_decay), optax.trace(momentum, nesterov))


@optimizers.register
def lion(weight_decay: float | jax.Array, b1: float = 0.9, b2: float = 0.99) -> optax.GradientTransformation:
    """Signs of a momentum, with decoupled decay (Chen et al. 2023, arXiv 2302.06675). Its rate is about a tenth of
    AdamW's."""
    return optax.chain(optax.scale_by_lion(b1, b2), decay(weight_decay))


@optimizers.register
def muon(weight_decay: float | jax.Array, beta: float = 0.95, steps: int = 5) -> optax.GradientTransformation:
    """Momentum made orthogonal by Newton-Schulz `steps` for kernels and tables, Adam for all else (Jordan 2024), with
    decoupled decay. A convolution's kernel counts as a matrix from all its inputs to its outputs.

    Updates have the size of AdamW's, so that rates carry over.
    """
    made = optax.contrib.muon(
        learning_rate=1.0,
        ns_steps=steps,
        beta=beta,
        muon_weight_dimension_numbers=lambda params: jax.tree.map(_as_matrix, params),
        consistent_rms=ADAM_RMS,
    )
    return optax.chain(made, optax.scale(-1.0), decay(weight_decay))


def decay(weight_decay: float | jax.Array) -> optax.GradientTransformation:
    """Add `weight_decay` times the weights to the update of kernels and tables.

    They are the leaves with two or more axes longer than one: biases, norms, and scales per tensor or per channel
    are left alone, also where they keep axes of length one.
    """

    def update(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        # A leaf that another group owns is an optax.MaskedNode, which has no leaves of its own.
        return jax.tree.map(
            lambda u, p: u + jnp.asarray(weight_decay, p.dtype) * p if _is_matrix(p) else u, updates, params
        )

    return optax.stateless(update)


class ParamGroup(BaseModel):
    """Parameters with settings of their own: the leaves in whose path, such as `learned/stem/conv/kernel/scale`, the
    regular expression `match` is found.

    `rate` multiplies the learning rate; `weight_decay` and `optimizer` replace the run's where they are given. For the
    first `warmup_steps` the rate rises from zero, beside the run's own warm-up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str
    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    optimizer: str | None = None
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    @field_validator("match")
    @classmethod
    def _is_pattern(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"`match` must be a regular expression, got {text!r}: {error}.") from None
        return text

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, text: str | None) -> str | None:
        if text is not None:
            optimizers.build(text, weight_decay=0.0)
        return text


def grouped(
    optimizer: str, groups: Sequence[ParamGroup], weight_decay: float | jax.Array
) -> optax.GradientTransformation:
    """The optimizer `optimizer` with other settings for `groups`; of several that match a leaf, the first counts."""
    if not groups:
        return optimizers.build(optimizer, weight_decay=weight_decay)
    parts: dict[Any, optax.GradientTransformation] = {REST: optimizers.build(optimizer, weight_decay=weight_decay)}
    for number, group in enumerate(groups):
        own = weight_decay if group.weight_decay is None else group.weight_decay
        built = optimizers.build(group.optimizer or optimizer, weight_decay=own)
        parts[str(number)] = optax.chain(built, _rate(group))
    return optax.partition(parts, lambda params: labels(groups, params))


def _rate(group: ParamGroup) -> optax.GradientTransformation:
    if not group.warmup_steps:
        return optax.scale(group.rate)
    return optax.scale_by_schedule(lambda step: group.rate * jnp.minimum(1.0, (step + 1) / group.warmup_steps))


def labels(groups: Sequence[ParamGroup], params: Any) -> Any:
    """The number of each leaf's group as a string, or `rest`."""

    def label(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return next((str(i) for i, group in enumerate(groups) if re.search(group.match, name)), REST)

    return jax.tree_util.tree_map_with_path(label, params)


def matching(groups: Sequence[ParamGroup], params: Any) -> tuple[ParamGroup, ...]:
    """The groups to which at least one leaf of `params` belongs."""
    found = set(jax.tree.leaves(labels(groups, params)))
    return tuple(group for i, group in enumerate(groups) if str(i) in found)


def _is_matrix(x: jax.Array) -> bool:
    return sum(size > 1 for size in x.shape) >= 2


def _as_matrix(x: jax.Array) -> "optax.contrib.MuonDimensionNumbers | None":
    if not _is_matrix(x):
        return None
    return optax.contrib.MuonDimensionNumbers(reduction_axis=tuple(range(x.ndim - 1)), output_axis=x.ndim - 1)
