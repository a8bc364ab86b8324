"""Linen models that predict a map: segmentation, detection, generation of images and sound."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from .case import Case, Inputs
from .inputs import features, images, series
from .parameters import linen_variables


class UNet(nn.Module):
    width: int = 8

    @nn.compact
    def __call__(self, x):
        top = nn.relu(nn.Conv(self.width, (3, 3))(x))
        middle = nn.relu(nn.Conv(2 * self.width, (3, 3), strides=(2, 2))(top))
        bottom = nn.relu(nn.Conv(4 * self.width, (3, 3), strides=(2, 2))(middle))
        up = nn.ConvTranspose(2 * self.width, (2, 2), strides=(2, 2))(bottom)
        middle = nn.relu(nn.Conv(2 * self.width, (3, 3))(jnp.concatenate([up, middle], axis=-1)))
        up = nn.ConvTranspose(self.width, (3, 3), strides=(2, 2))(middle)
        top = nn.relu(nn.Conv(self.width, (3, 3))(jnp.concatenate([up, top], axis=-1)))
        return nn.Conv(3, (1, 1))(top)


class DeepLab(nn.Module):
    classes: int = 4

    @nn.compact
    def __call__(self, x):
        size = x.shape[1:3]
        x = nn.relu(nn.Conv(16, (3, 3), strides=4)(x))
        branches = [nn.relu(nn.Conv(8, (3, 3), kernel_dilation=rate)(x)) for rate in (1, 2, 4)]
        pooled = nn.relu(nn.Conv(8, (1, 1))(x.mean(axis=(1, 2), keepdims=True)))
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        x = nn.Conv(self.classes, (1, 1))(jnp.concatenate(branches, axis=-1))
        return jax.image.resize(x, (x.shape[0], *size, self.classes), method="bilinear")


class ConvAct(nn.Module):
    features: int
    kernel: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.features, (self.kernel, self.kernel), self.stride, use_bias=False)(x)
        return nn.leaky_relu(nn.BatchNorm(use_running_average=True)(x), 0.1)


class Yolo(nn.Module):
    classes: int = 3
    anchors: int = 2

    @nn.compact
    def __call__(self, x):
        c3 = ConvAct(16, stride=2, name="c3")(ConvAct(8, stride=2, name="stem")(x))
        c4 = ConvAct(32, stride=2, name="c4")(c3)
        p4 = ConvAct(16, kernel=1, name="lateral")(c4)
        batch, height, width, channels = p4.shape
        up = jax.image.resize(p4, (batch, 2 * height, 2 * width, channels), method="nearest")
        p3 = ConvAct(16, name="p3")(jnp.concatenate([up, c3], axis=-1))
        head = nn.Conv(self.anchors * (5 + self.classes), (1, 1), name="head")
        return {name: self.decode(head(p)) for name, p in (("small", p3), ("large", p4))}

    def decode(self, y):
        y = y.reshape((*y.shape[:3], self.anchors, 5 + self.classes))
        centre, size, scores = jnp.split(y, [2, 4], axis=-1)
        rows, columns = jnp.meshgrid(jnp.arange(y.shape[1]), jnp.arange(y.shape[2]), indexing="ij")
        offset = jnp.stack([columns, rows], axis=-1)[None, :, :, None, :].astype(y.dtype)
        return {"box": jnp.concatenate([nn.sigmoid(centre) + offset, jnp.exp(size)], -1), "scores": scores}


class WaveNet(nn.Module):
    width: int = 16

    @nn.compact
    def __call__(self, x):
        x, skips = nn.Dense(self.width)(x), 0.0
        for rate in (1, 2, 4):
            y = nn.Conv(2 * self.width, (2,), kernel_dilation=rate, padding="CAUSAL")(x)
            filtered, gate = jnp.split(y, 2, axis=-1)
            y = nn.tanh(filtered) * nn.sigmoid(gate)
            skips = skips + nn.Dense(self.width)(y)
            x = x + nn.Dense(self.width)(y)
        return nn.Dense(8)(nn.relu(skips))


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z):
        x = nn.Dense(4 * 4 * 16)(z).reshape((-1, 4, 4, 16))
        x = nn.relu(nn.GroupNorm(4)(x))
        x = nn.relu(nn.ConvTranspose(8, (4, 4), strides=(2, 2), padding="SAME")(x))
        x = nn.ConvTranspose(3, (5, 5), strides=(2, 2), padding="SAME", transpose_kernel=True)(x)
        return nn.tanh(x)


def _case(name: str, model: nn.Module, inputs: Inputs, contractions: int, **more) -> Case:
    return Case(name, model.apply, linen_variables(model, *inputs(2, None, 0)), inputs, contractions, **more)


def unet() -> Case:
    return _case("unet", UNet(), images(), 6 + 2, notes="strided and transposed convolutions, skips by concatenation")


def deeplab() -> Case:
    notes = "dilated convolutions; the bilinear resize is 2 dots of an activation with matrices made of constants"
    return _case("deeplab", DeepLab(), images(), 1 + 3 + 1 + 1 + 2, notes=notes)


def yolo() -> Case:
    notes = "nested dict of outputs; one head module on two scales; nearest upsampling (a gather of an activation)"
    return _case("yolo", Yolo(), images(32), 5 + 2, notes=notes)


def wavenet() -> Case:
    notes = "causal dilated 1-D convolutions; the last residual Dense is dead code that stays in the jaxpr"
    return _case("wavenet", WaveNet(), series(4), 1 + 3 * 3 + 1, length_varies=True, notes=notes)


def generator() -> Case:
    return _case(
        "generator", Generator(), features(12), 1 + 2, notes="transposed convolutions, one of a flipped kernel"
    )


CASES = (unet, deeplab, yolo, wavenet, generator)
