"""One optimizer step as a compiled function, shared by all runs of one loss."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qat.registry import forgotten_on_change
from qat.train.feed import describe, differences
from qat.train.optimizer import Hyper, ParamGroup, grouped

type Metrics = dict[str, jax.Array]
type Inside = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes another function of a step, such as one that is as fast in a compiled loop, with the same results but for
last digits."""


class Loss(Protocol):
    """Scalar to minimise, with the new state and scalar metrics; `frozen` asks to leave running statistics alone."""

    def __call__(
        self, params: Any, state: Any, batch: Any, key: jax.Array, /, *, frozen: bool
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        """Called while it is traced, once per compilation."""
        ...


class Carry(NamedTuple):
    """All that one step hands to the next; `ema` is `None` where no average is kept."""

    params: Any
    state: Any
    opt_state: Any
    ema: Any


@forgotten_on_change
@functools.lru_cache(maxsize=32)
def initialiser(optimizer: str, groups: tuple[ParamGroup, ...], mesh: Mesh) -> Callable[[Any], Any]:
    """The compiled function from params to the optimizer's first state."""
    return jax.jit(grouped(optimizer, groups, 0.0).init, out_shardings=NamedSharding(mesh, PartitionSpec()))


@dataclass(frozen=True, kw_only=True)
class Step:
    """The program of a step: all of it that is no number. `inside` makes another function of it, None does not."""

    loss: Loss
    optimizer: str
    groups: tuple[ParamGroup, ...]
    accumulate: int
    frozen: bool = False
    inside: Inside | None = None

    def __call__(self, carry: Carry, batch: Any, hyper: Hyper) -> tuple[Carry, Metrics]:
        """Take one step on a batch with a leading axis of length `accumulate`."""
        step = functools.partial(one_step, self)
        return (step if self.inside is None else self.inside(step))(carry, batch, hyper)


@forgotten_on_change
@functools.lru_cache(maxsize=32)
def train_step(step: Step, mesh: Mesh) -> Callable[[Carry, Any, Hyper], tuple[Carry, Metrics]]:
    """The compiled step; consumes the carry it is given.

    Cached on its arguments, so that runs that differ in numbers only (rates, decay, seed, steps) share one program.
    """
    return jax.jit(step, donate_argnums=0, out_shardings=NamedSharding(mesh, PartitionSpec()))


def one_step(step: Step, carry: Carry, batch: Any, hyper: Hyper) -> tuple[Carry, Metrics]:
    """Take one optimizer step as jax traces it."""
    key = jax.random.fold_in(jax.random.key(hyper.seed), hyper.step)
    value = functools.partial(_gradient, functools.partial(step.loss, frozen=step.frozen), carry.params)
    grads, state, metrics = _accumulated(value, carry.state, batch, key, step.accumulate)
    norm = optax.tree.norm(grads)
    grads, _ = optax.clip_by_global_norm(hyper.clip_norm).update(grads, optax.EmptyState())
    tx = grouped(step.optimizer, step.groups, hyper.weight_decay)
    updates, opt_state = tx.update(grads, carry.opt_state, carry.params)
    params = jax.tree.map(lambda p, u: p - jnp.asarray(hyper.learning_rate, p.dtype) * u, carry.params, updates)
    ema = None if carry.ema is None else jax.tree.map(_average(hyper.ema_decay), carry.ema, params)
    return Carry(params, state, opt_state, ema), {**metrics, "grad_norm": norm}


def _gradient(
    loss: Callable[..., Any], params: Any, state: Any, batch: Any, key: jax.Array
) -> tuple[Any, Any, Metrics]:
    (value, (new_state, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(params, state, batch, key)
    if describe(new_state) != describe(state):
        raise ValueError(
            "`loss` must return a state of the structure it was given: "
            f"{differences(describe(state), describe(new_state))}."
        )
    return grads, new_state, {**metrics, "loss": value}


def _accumulated(
    gradient: Callable[..., Any], state: Any, batch: Any, key: jax.Array, count: int
) -> tuple[Any, Any, Metrics]:
    """Mean gradient and metrics over the micro-batches; the state passes from each to the next."""
    if count == 1:
        return gradient(state, jax.tree.map(lambda x: x[0], batch), key)

    def micro(carry: tuple[Any, Any], xs: tuple[Any, jax.Array]) -> tuple[tuple[Any, Any], None]:
        state, total = carry
        grads, state, metrics = gradient(state, xs[0], jax.random.fold_in(key, xs[1]))
        return (state, jax.tree.map(jnp.add, total, (grads, metrics))), None

    first = jax.tree.map(lambda x: x[0], batch)
    grads, _, metrics = jax.eval_shape(gradient, state, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
    (state, total), _ = jax.lax.scan(micro, (state, zeros), (batch, jnp.arange(count)))
    grads, metrics = jax.tree.map(lambda x: x / count, total)
    return grads, state, metrics


def _average(decay: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda mean, x: mean + jnp.asarray(1 - decay, x.dtype) * (x - mean)
