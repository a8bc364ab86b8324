"""An exponential moving average of each batch's range."""

import jax.numpy as jnp

from qat.observers.observer import Observer, register


@register
def ema(momentum: float = 0.99) -> Observer:
    """Average the batches' smallest and largest values, later ones weighing more (Jacob et al. 2018, arXiv
    1712.05877): m <- momentum * m + (1 - momentum) * x from zero, divided by the sum of the weights, 1 - momentum**n
    after n batches (the correction of bias of Adam: Kingma & Ba 2015, arXiv 1412.6980).

    `momentum` in [0, 1) is the weight of the past. At 0.99 a few batches count almost alike; without the correction
    the first of 8 would weigh 0.93. State: three numbers. Cost of a batch: its extremes.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"`momentum` must be in [0, 1), got {momentum}. Larger values forget more slowly.")

    def update(s, x):
        weight, low, high = s
        keep, new = jnp.float32(momentum), jnp.float32(1 - momentum)
        return keep * weight + new, keep * low + new * x.min(-1), keep * high + new * x.max(-1)

    def average(s, steps, symmetric):
        weight, low, high = s
        seen, by = weight > 0, jnp.maximum(weight, 1e-30)
        return jnp.where(seen, low / by, jnp.inf), jnp.where(seen, high / by, -jnp.inf)

    def init(channels):
        return jnp.float32(0), jnp.zeros(channels, jnp.float32), jnp.zeros(channels, jnp.float32)

    return Observer(init=init, update=update, range=average)
