"""Adaptive rounding, layer by layer."""

from functools import partial

from qat.ptq.blocks import layers
from qat.ptq.method import Method, register
from qat.ptq.reconstruct import reconstruction
from qat.ptq.soft_rounding import Settings


@register
def adaround(
    steps: int = 1000,
    batch: int | None = None,
    samples: int = 512,
    rate: float = 0.01,
    pull: float = 1.0,
    warm_up: float = 0.2,
    relu: bool = True,
) -> Method:
    """Learn for each weight of a layer whether it is rounded up or down, so that the layer's outputs stay.

    Minimises |f(W x) - f(W' x')|^2 over V, with W' = s clip(floor(W / s) + h(V)), h the rectified sigmoid, plus `pull`
    times mean(1 - |2 h(V) - 1|^beta), beta annealed from 20 to 2 after a share `warm_up` of the steps (Nagel et al.
    2020, arXiv 2004.10568). x are the inputs in float, x' those that the quantized layers before it give; f is the ReLU
    behind the layer, with normalization between, where `relu` asks for it and one is found, else nothing. The error is
    relative to that of nearest rounding, which stays where nothing better is found. Scales stay those of calibration.

    `steps` of Adam at `rate` on `batch` of at most `samples` examples: the paper takes 10,000 at 0.001, which gives
    little more here. A `batch` of None is a power of two from 4 to 32, the fewer the larger the values of an example.
    Works on weights of dense layers and convolutions, grouped ones too. Cost: three times `steps` x `batch` forward
    passes of the function, whatever its number of layers, and a compilation for each form of layer, 1 to 2 s of one
    core; a step of 8 x 128 rows on a dense layer of 384 x 1536 took 27 ms of one core.
    """
    settings = Settings(steps, batch, rate=rate, pull=pull, warm_up=warm_up)
    return reconstruction(partial(layers, relu=relu), settings, samples)
