"""Block reconstruction with activations that are quantized at random."""

from functools import partial

from qat.ptq.blocks import blocks, check_pattern
from qat.ptq.method import Method, register
from qat.ptq.reconstruct import reconstruction
from qat.ptq.soft_rounding import Settings


@register
def qdrop(
    steps: int = 500,
    batch: int | None = None,
    samples: int = 512,
    rate: float = 0.01,
    pull: float = 1.0,
    warm_up: float = 0.2,
    range_rate: float = 0.001,
    drop: float = 0.5,
    pattern: str | None = None,
) -> Method:
    """Learn the rounding of all weights of a block, with each element of its activations left in float at random.

    As `brecq` without `fisher`; but in each step every element of an activation stays in float with the probability
    `drop`, and every element of the block's inputs is that of the float function, so that the rounding holds for a
    whole neighbourhood of the calibration data (Wei et al. 2022, arXiv 2203.05740). For few bits of activations. Cost:
    as `adaround`, and some random bytes for every activation: ten steps of 8 x 128 tokens on a layer of MiniLM took
    3.1 s of one core, the errors before and after included.
    """
    settings = Settings(steps, batch, rate=rate, pull=pull, warm_up=warm_up, drop=drop, range_rate=range_rate)
    check_pattern(pattern)
    return reconstruction(partial(blocks, pattern=pattern), settings, samples)
