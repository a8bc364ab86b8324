"""An exponential moving average of each batch's range."""

import jax.numpy as jnp

from qat.observers.observer import Observer, register


@register
def ema(momentum: float = 0.99) -> Observer:
    """Average the batches' smallest and largest values (Jacob et al. 2018, arXiv 1712.05877).

    An exponential moving average that starts at the first batch; `momentum` in [0, 1) is the weight of earlier batches.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"`momentum` must be in [0, 1), got {momentum}. Larger values forget more slowly.")

    def update(s, x):
        low, high, seen = s
        keep = jnp.where(seen > 0, momentum, 0.0)
        first = seen == 0
        low = jnp.where(first, x.min(-1), keep * low + (1 - keep) * x.min(-1))
        high = jnp.where(first, x.max(-1), keep * high + (1 - keep) * x.max(-1))
        return low, high, seen + 1

    return Observer(
        init=lambda channels: (jnp.full(channels, jnp.inf), jnp.full(channels, -jnp.inf), jnp.zeros((), jnp.int32)),
        update=update,
        range=lambda s, steps, symmetric: (s[0], s[1]),
    )
