"""The smallest and largest value seen."""

import jax.numpy as jnp

from qat.observers.observer import Observer, register


@register
def minmax() -> Observer:
    """Take the range of all values seen (Jacob et al. 2018, arXiv 1712.05877). State: two numbers a channel. Cost of a
    batch: its extremes."""
    return Observer(
        init=lambda channels: (jnp.full(channels, jnp.inf, jnp.float32), jnp.full(channels, -jnp.inf, jnp.float32)),
        update=lambda s, x: (jnp.minimum(s[0], x.min(-1)), jnp.maximum(s[1], x.max(-1))),
        range=lambda s, steps, symmetric: s,
    )
