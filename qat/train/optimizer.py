"""Optimizers by name: optax transformations that leave the learning rate to the step, which gets it as data."""

import jax
import jax.numpy as jnp
import optax

from qat.registry import Registry

optimizers: Registry[optax.GradientTransformation] = Registry("optimizer")


@optimizers.register
def adamw(
    weight_decay: float | jax.Array, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
    return optax.chain(optax.scale_by_adam(b1, b2, eps), decay(weight_decay))


@optimizers.register
def sgd(weight_decay: float | jax.Array, momentum: float = 0.9, nesterov: bool = False) -> optax.GradientTransformation:
    """Gradient descent with momentum; the decay is part of the gradient, as is usual for convolutional networks."""
    return optax.chain(decay(weight_decay), optax.trace(momentum, nesterov))


def decay(weight_decay: float | jax.Array) -> optax.GradientTransformation:
    """Adds `weight_decay` times the weights to the update of kernels and tables.

    They are the leaves with two or more axes longer than one: biases, norms, and scales per tensor or per channel
    are left alone, also where they keep axes of length one.
    """

    def update(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(
            lambda u, p: u + jnp.asarray(weight_decay, p.dtype) * p if _is_matrix(p) else u, updates, params
        )

    return optax.stateless(update)


def _is_matrix(x: jax.Array) -> bool:
    return sum(size > 1 for size in x.shape) >= 2
