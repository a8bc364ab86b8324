"""The clip range with the smallest mean squared quantization error."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from qat.numerics import MAX_BITS
from qat.observers.observer import Observer, register
from qat.observers.sketch import Bins, Sketch, unit_of

BINS = Bins(bits=5, octaves=12)
SMALLEST = 2.0**-10  # of the step that covers all values
FINER = 15  # steps tried around the best
LARGEST = float(np.finfo(np.float32).max)
NARROW = 0.01  # steps: a bin whose values are as good as one


@register
def mse(candidates: int = 64) -> Observer:
    """Take the range whose grid rounds and clips the values seen with the least mean squared error (Banner et al. 2019,
    arXiv 1810.05723, who solve for the clip range of a Gaussian or Laplace; here it is searched).

    The error is that of the grid as it is used: multiples of a step, a whole number of them below zero, values evenly
    spread over the bins of a histogram. `candidates` steps are tried, from the one that covers all values down by
    equal factors to 1/1024 of it, then 15 around the best. On an affine grid each is tried with its best number of
    codes below zero, which is where as much of the values' sizes lies beyond the last code but half a step on either
    side (the error is convex in it): both ends are free. An affine range is one of codes, so that up to half a step
    of it may lie beyond the values seen. State: 3 KiB a channel. Cost of a batch: one count of each value, some 2 ns;
    of a range: some 80 passes over 768 bins a channel.
    """
    if not (isinstance(candidates, int) and candidates >= 2):
        raise ValueError(f"`candidates` must be an integer of at least 2, got {candidates!r}. 64 is the default.")
    coarse = np.geomspace(1, SMALLEST, candidates).astype(np.float32)
    around = np.float32(SMALLEST) ** (np.linspace(-1, 1, FINER + 2)[1:-1] / (candidates - 1))

    def least_error_range(s: Sketch, steps: Array, symmetric: bool) -> tuple[Array, Array]:
        def channel(lower: Array, upper: Array, counts: Array) -> tuple[Array, Array]:
            """The range in units of `unit`."""
            low, high = jnp.minimum(lower[0], 0.0), jnp.maximum(upper[-1], 0.0)
            half = jnp.where(symmetric & (steps % 2 == 1), 0.5, 0.0)  # of a step: levels at half integers
            widest = jnp.where(symmetric, 2 * jnp.maximum(-low, high), high - low) / steps

            def below_zero(step: Array) -> Array:
                if symmetric:
                    return steps / 2
                return jnp.where(high > 0, codes_below_zero((lower + upper) / 2, counts, step, steps), steps)

            def error(share: Array) -> Array:
                step = jnp.maximum(share * widest, 1e-30)
                zero = below_zero(step)
                edges, ends = (lower / step - half, upper / step - half), (-zero - half, steps - zero - half)
                return squared_error(*edges, counts, *ends) * share**2

            first = jnp.asarray(coarse)[jnp.argmin(jax.lax.map(error, jnp.asarray(coarse)))]
            finer = jnp.minimum(first * jnp.asarray(around, jnp.float32), 1.0)
            step = widest * finer[jnp.argmin(jax.lax.map(error, finer))]
            zero = below_zero(jnp.maximum(step, 1e-30))
            return -zero * step, (steps - zero) * step

        unit = unit_of(s)
        lower, upper = (edge / unit[:, None] for edge in BINS.edges(s))
        low, high = (bound * unit for bound in jax.vmap(channel)(lower, upper, s.counts))
        return jnp.maximum(low, -LARGEST), jnp.minimum(high, LARGEST)  # half a step more may be infinite

    return Observer(init=BINS.empty, update=BINS.update, range=least_error_range)


def codes_below_zero(
    center: Float[Array, " bins"], counts: Float[Array, " bins"], step: Array, steps: Float[Array, ""]
) -> Float[Array, ""]:
    """Find by bisection the number of codes below zero, of a grid's `steps` others, of least squared error.

    One code moved from above to below spares what negative values exceed the last code and a half by, twice, and costs
    what positive values exceed theirs by.
    """

    def excess(values: Array, bound: Array) -> Array:
        return jnp.sum(counts * jnp.maximum(values - bound, 0.0))

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        """The least number that is enough lies between the two, both included."""
        least, most = bounds
        middle = jnp.floor((least + most) / 2)
        enough = excess(center, (steps - middle - 0.5) * step) >= excess(-center, (middle + 0.5) * step)
        return jnp.where(enough, least, jnp.minimum(middle + 1, most)), jnp.where(enough, middle, most)

    return jax.lax.fori_loop(0, MAX_BITS, halve, (jnp.zeros_like(steps), steps))[0]


def squared_error(
    lower: Float[Array, " bins"], upper: Float[Array, " bins"], counts: Float[Array, " bins"], qmin: Array, qmax: Array
) -> Float[Array, ""]:
    """The summed squared error of rounding values to whole numbers in [qmin, qmax], evenly spread over their bins.

    Of the integral of (u - code(u))**2 from zero to t, code / 12 + (t - code)**3 / 3, between a bin's two edges.
    """
    codes = [jnp.clip(jnp.round(edge), qmin, qmax) for edge in (lower, upper)]
    a, b = lower - codes[0], upper - codes[1]
    width = upper - lower
    across = (codes[1] - codes[0]) / 12 + (b**3 - a**3) / 3
    of_several = across / jnp.maximum(width, NARROW)
    middle = (lower + upper) / 2
    of_narrow = (middle - jnp.clip(jnp.round(middle), qmin, qmax)) ** 2
    of_one = (a * a + a * b + b * b) / 3
    mean = jnp.where(codes[0] == codes[1], of_one, jnp.where(width < NARROW, of_narrow, of_several))
    return jnp.sum(counts * mean)
