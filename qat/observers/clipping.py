"""Search, among shrunken clip ranges, for the one of least cost."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from qat.observers.sketch import Sketch, centers

SMALLEST = 0.1  # of the full range
Cost = Callable[[Float[Array, " bins"], Float[Array, " bins"], Array, Array, Array], Array]
"""(bin centers, counts, low, high, steps) -> the cost of clipping to [low, high]."""


def least_cost_range(cost: Cost, s: Sketch, steps: Array, symmetric: bool, candidates: int) -> tuple[Array, Array]:
    """Each channel's observed range, widened to hold zero as every grid does, times the fraction in [0.1, 1] of least
    cost. For a symmetric grid the range is first widened to the same on both sides."""
    fractions = jnp.linspace(1.0, SMALLEST, candidates)

    def channel(center: Array, count: Array, span: Array, low: Array, high: Array) -> tuple[Array, Array]:
        low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
        if symmetric:
            low, high = jnp.minimum(low, -high), jnp.maximum(high, -low)
        c, a, b = center / span, low / span, high / span  # squares of very large values would overflow
        costs = jax.lax.map(lambda f: cost(c, count, a * f, b * f, steps), fractions)
        best = fractions[jnp.argmin(costs)]
        return low * best, high * best

    return jax.vmap(channel)(centers(s), s.counts, s.span, s.low, s.high)


def code_of(center: Array, low: Array, high: Array, steps: Array) -> tuple[Array, Array]:
    """The step of the grid over [low, high], and how many steps from `low` each center is rounded to."""
    step = jnp.maximum((high - low) / steps, 1e-30)
    return step, jnp.round((jnp.clip(center, low, high) - low) / step)
