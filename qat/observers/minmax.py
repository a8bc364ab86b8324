"""The smallest and largest observed value."""

import jax.numpy as jnp

from qat.observers.observer import Observer, register


@register
def minmax() -> Observer:
    """The range of all observed values (Jacob et al. 2018, arXiv 1712.05877)."""
    return Observer(
        init=lambda channels: (jnp.full(channels, jnp.inf), jnp.full(channels, -jnp.inf)),
        update=lambda s, x: (jnp.minimum(s[0], x.min(-1)), jnp.maximum(s[1], x.max(-1))),
        range=lambda s, steps, symmetric: s,
    )
