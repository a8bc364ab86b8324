"""YOLO-lite: a small anchor-free detector for CPUs (in the line of YOLOX, Ge et al. 2021, and FCOS, Tian et al. 2019).

Space-to-depth turns a few input channels into many without a loss, so that already the first convolution is fast in
integers; three levels of strides 8, 16 and 32 exchange what they see by addition, which needs no requantization of
joined channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from qat import models
from qat.tasks.detection.boxes import STRIDES

BLOCK = 4  # pixels of a side that space-to-depth makes one cell
RARE = -4.6  # logit of a probability of 0.01: at first nothing is an object (Lin et al. 2017, arXiv 1708.02002)
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "relu6": nn.relu6,
    "hardswish": nn.hard_swish,
    "silu": nn.silu,
}


def space_to_depth(x: Float[Array, "batch height width channels"], block: int) -> Float[Array, "batch h w depth"]:
    """Squares of `block` x `block` pixels as one cell with all their channels."""
    b, h, w, c = x.shape
    cells = x.reshape(b, h // block, block, w // block, block, c)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class Conv(nn.Module):
    """Convolution, BatchNorm, activation."""

    features: int
    kernel: int = 3
    stride: int = 1
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps of the given number of features, smaller by the stride."""
        size, stride = (self.kernel, self.kernel), (self.stride, self.stride)
        x = nn.Conv(self.features, size, stride, use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.97, epsilon=1e-3)(x)
        return ACTIVATIONS[self.activation](x)


class Residual(nn.Module):
    """Two convolutions, the first to half the channels, around which the input goes on (Redmon and Farhadi 2018,
    YOLOv3, arXiv 1804.02767)."""

    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Maps of the input's shape."""
        y = Conv(x.shape[-1] // 2, 1, activation=self.activation)(x, train)
        return x + Conv(x.shape[-1], 3, activation=self.activation)(y, train)


class Head(nn.Module):
    """The head of one level, which predicts classes and a box at each cell, by branches of their own."""

    classes: int
    features: int
    activation: str

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array]:
        """Logits [batch, cells, classes] and distances of a box's sides in strides [batch, cells, 4]."""
        bias = nn.initializers.constant(RARE)
        c = Conv(self.features, 3, activation=self.activation, name="class_conv")(x, train)
        b = Conv(self.features, 3, activation=self.activation, name="box_conv")(x, train)
        logits = nn.Dense(self.classes, bias_init=bias, name="class")(c)
        sides = nn.Dense(4, name="box")(b)
        cells = x.shape[1] * x.shape[2]
        return logits.reshape(-1, cells, self.classes), nn.softplus(sides).reshape(-1, cells, 4)


class YoloLite(nn.Module):
    """Images to logits [batch, points, classes] and distances in pixels [batch, points, 4]; see
    `qat.tasks.detection.boxes`."""

    classes: int
    width: int = 48
    depth: int = 1
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> dict[str, Array]:
        """Sides must be multiples of 32 pixels; of others `ValueError`."""
        if x.shape[1] % STRIDES[-1] or x.shape[2] % STRIDES[-1]:
            raise ValueError(
                f"the sides of the images must be multiples of {STRIDES[-1]} pixels, got {x.shape[1]} x {x.shape[2]}. "
                "Crop or pad them."
            )
        w, act = self.width, self.activation
        x = space_to_depth(x, BLOCK)
        x = Conv(w, 3, 2, act, name="stem")(x, train)
        levels = []
        for i, features in enumerate((w, 2 * w, 3 * w)):
            if i:
                x = Conv(features, 3, 2, act, name=f"down_{i}")(x, train)
            for j in range(self.depth):
                x = Residual(act, name=f"stage_{i}_{j}")(x, train)
            levels.append(Conv(w, 1, 1, act, name=f"lateral_{i}")(x, train))
        for i in (1, 0):
            levels[i] = levels[i] + _upsampled(levels[i + 1])
        found = [Head(self.classes, w, act, name=f"head_{i}")(x, train) for i, x in enumerate(levels)]
        distances = [d * stride for (_, d), stride in zip(found, STRIDES, strict=True)]
        return {"logits": jnp.concatenate([c for c, _ in found], 1), "distances": jnp.concatenate(distances, 1)}


def _upsampled(x: Array) -> Array:
    """Twice the sides, each cell repeated."""
    b, h, w, c = x.shape
    return jax.lax.broadcast_in_dim(x, (b, h, 2, w, 2, c), (0, 1, 3, 5)).reshape(b, 2 * h, 2 * w, c)


@models.register
def yolo_lite(classes: int, width: int = 48, depth: int = 1, activation: str = "relu") -> YoloLite:
    """`width` is that of the finest level and the heads; `activation` one of relu, relu6, hardswish, silu."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"`activation` must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
    if width < 8 or depth < 1:
        raise ValueError(f"`width` must be at least 8 and `depth` at least 1, got {width} and {depth}.")
    return YoloLite(classes, width, depth, activation)
