"""A small convolutional network with batch normalization, for images of a few pixels."""

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from qat import models


@models.register
def cnn(classes: int = 10, width: int = 32) -> nn.Module:
    """Three convolutions of 3 x 3, the second with stride 2; the mean over the image; a dense layer."""
    return CNN(classes, width)


class CNN(nn.Module):
    """Logits; of the variables, `batch_stats` changes in training."""

    classes: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool) -> Float[Array, "batch classes"]:
        """Logits of images; `train` normalizes by the batch and updates the running statistics."""
        wide = 2 * self.width
        x = ConvBlock(self.width, name="stem")(x, train)
        x = ConvBlock(wide, stride=2, name="down")(x, train)
        x = ConvBlock(wide, name="body")(x, train)
        return nn.Dense(self.classes, name="head")(x.mean(axis=(1, 2)))


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images of `channels` channels, smaller by `stride`."""
        x = nn.Conv(self.channels, (3, 3), (self.stride, self.stride), use_bias=False, name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return nn.relu(x)
