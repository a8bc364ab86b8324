"""Convolutional classifiers in Flax Linen with unusual kernels: depthwise, standardized, normalized, in 3-D."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from .case import Case, Inputs
from .inputs import features, images
from .parameters import linen_variables


class InvertedResidual(nn.Module):
    features: int
    stride: int = 1
    expand: int = 4

    @nn.compact
    def __call__(self, x, train: bool):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train)
        hidden = x.shape[-1] * self.expand
        y = nn.relu6(norm()(nn.Conv(hidden, (1, 1), use_bias=False)(x)))
        y = nn.Conv(hidden, (3, 3), self.stride, feature_group_count=hidden, use_bias=False)(y)
        y = nn.relu6(norm()(y))
        y = norm()(nn.Conv(self.features, (1, 1), use_bias=False)(y))
        return x + y if x.shape == y.shape else y


class MobileNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.Conv(8, (3, 3), strides=2, use_bias=False)(x)
        x = nn.relu6(nn.BatchNorm(use_running_average=not train)(x))
        x = InvertedResidual(8)(x, train)
        x = InvertedResidual(12, stride=2)(x, train)
        return nn.Dense(10)(x.mean(axis=(1, 2)))


class ConvNeXtBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        y = nn.Conv(width, (7, 7), feature_group_count=width, name="dwconv")(x)
        y = nn.LayerNorm(epsilon=1e-6)(y)
        y = nn.gelu(nn.Dense(4 * width, name="pwconv1")(y))
        y = nn.Dense(width, name="pwconv2")(y)
        return x + self.param("gamma", nn.initializers.constant(1e-6), (width,)) * y


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Conv(16, (4, 4), strides=4, padding="VALID", name="patchify")(x))
        for i in range(2):
            x = ConvNeXtBlock(name=f"block_{i}")(x)
        return nn.Dense(10, name="head")(nn.LayerNorm()(x.mean(axis=(1, 2))))


class StandardizedConv(nn.Module):
    features: int
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x):
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = kernel - kernel.mean(axis=(0, 1, 2))
        kernel = kernel / (kernel.std(axis=(0, 1, 2)) + 1e-5)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, self.strides, "SAME", dimension_numbers=numbers) + bias


class BiT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = StandardizedConv(16, name="root")(x)
        for _ in range(2):
            y = nn.relu(nn.GroupNorm(num_groups=4)(x))
            x = x + StandardizedConv(16)(y)
        x = StandardizedConv(24, (2, 2))(nn.relu(nn.GroupNorm(num_groups=4)(x)))
        return nn.Dense(10)(nn.relu(x).mean(axis=(1, 2)))


class WeightNormNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.elu(nn.WeightNorm(nn.Conv(16, (3, 3), strides=2, name="conv"), variable_filter={"kernel"})(x))
        return nn.WeightNorm(nn.Dense(10, name="dense"), variable_filter={"kernel"})(x.reshape((x.shape[0], -1)))


class VideoNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3, 3), strides=(1, 2, 2))(x))
        x = nn.max_pool(x, (2, 2, 2), (2, 2, 2))
        x = nn.relu(nn.Conv(16, (3, 3, 3))(x))
        return nn.Dense(5)(jnp.max(x, axis=(1, 2, 3)))


def _case(name: str, model: nn.Module, inputs: Inputs, contractions: int, notes: str = "") -> Case:
    return Case(name, model.apply, linen_variables(model, *inputs(2, None, 0)), inputs, contractions, notes=notes)


def mobilenet() -> Case:
    model, inputs = MobileNet(), images()
    variables = linen_variables(model, *inputs(2, None, 0), train=False)
    notes = "depthwise convolutions, relu6, linear bottlenecks"
    return Case("mobilenet", functools.partial(model.apply, train=False), variables, inputs, 1 + 2 * 3 + 1, notes=notes)


def convnext() -> Case:
    return _case("convnext", ConvNeXt(), images(), 1 + 2 * 3 + 1, "depthwise 7x7, a learned scale per channel")


def weight_standardized() -> Case:
    return _case("weight_standardized", BiT(), images(), 1 + 2 + 1 + 1, "the kernel is computed from a parameter")


def weight_norm() -> Case:
    return _case("weight_norm", WeightNormNet(), images(8), 2, "nn.WeightNorm: kernels normalised at every call")


def video_3d() -> Case:
    return _case("video_3d", VideoNet(), features(6, 8, 8, 3), 2 + 1, "3-D convolutions")


CASES = (mobilenet, convnext, weight_standardized, weight_norm, video_3d)
