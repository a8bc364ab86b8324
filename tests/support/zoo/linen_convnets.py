"""Image classifiers in Flax Linen."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from .case import Case, Inputs
from .inputs import features, images
from .parameters import linen_variables


class MLP(nn.Module):
    widths: tuple[int, ...] = (32, 32, 10)

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = nn.gelu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


class LeNet(nn.Module):
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(6, (5, 5), padding="SAME", dtype=self.dtype)(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.tanh(nn.Conv(16, (5, 5), padding="VALID", dtype=self.dtype)(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = x.reshape((x.shape[0], -1))
        x = nn.tanh(nn.Dense(32, dtype=self.dtype)(x))
        x = nn.tanh(nn.Dense(24, dtype=self.dtype)(x))
        return nn.Dense(10, dtype=self.dtype)(x)


class BasicBlock(nn.Module):
    filters: int
    conv: Callable
    norm: Callable
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x):
        residual = x
        y = nn.relu(self.norm()(self.conv(self.filters, (3, 3), self.strides)(x)))
        y = self.norm()(self.conv(self.filters, (3, 3))(y))
        if residual.shape != y.shape:
            residual = self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(residual)
            residual = self.norm(name="norm_proj")(residual)
        return nn.relu(residual + y)


class ResNet(nn.Module):
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool = True):
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        x = nn.relu(norm(name="bn_init")(conv(16, (3, 3), name="conv_init")(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = BasicBlock(16, conv, norm)(x)
        x = BasicBlock(32, conv, norm, (2, 2))(x)
        return nn.Dense(10, dtype=self.dtype, name="head")(x.mean(axis=(1, 2)))


class ResNeXtBlock(nn.Module):
    groups: int = 4

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Conv(16, (1, 1))(x))
        y = nn.relu(nn.Conv(16, (3, 3), feature_group_count=self.groups)(y))
        return nn.relu(x + nn.Conv(x.shape[-1], (1, 1))(y))


class ResNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(24, (3, 3), strides=2)(x))
        for _ in range(2):
            x = ResNeXtBlock()(x)
        return nn.Dense(10)(x.mean(axis=(1, 2)))


class SqueezeExcite(nn.Module):
    ratio: int = 4

    @nn.compact
    def __call__(self, x):
        s = x.mean(axis=(1, 2), keepdims=True)
        s = nn.swish(nn.Dense(x.shape[-1] // self.ratio, name="reduce")(s))
        return x * nn.sigmoid(nn.Dense(x.shape[-1], name="expand")(s))


class SENet(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (16, 24):
            x = nn.swish(nn.Conv(width, (3, 3), strides=2)(x))
            x = SqueezeExcite()(x)
        return nn.Dense(10)(x.mean(axis=(1, 2)))


class Ensemble(nn.Module):
    members: int = 3

    @nn.compact
    def __call__(self, x):
        same: Any = None
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        member = nn.vmap(LeNet, in_axes=same, axis_size=self.members, **axes)
        return nn.softmax(member()(x)).mean(axis=0)


def _case(name: str, model: nn.Module, inputs: Inputs, contractions: int, **more) -> Case:
    return Case(name, model.apply, linen_variables(model, *inputs(2, None, 0)), inputs, contractions, **more)


def mlp() -> Case:
    return _case("mlp", MLP(), features(20), 3)


def lenet() -> Case:
    return _case("lenet", LeNet(), images(14, 1), 2 + 3)


def lenet_bf16() -> Case:
    notes = "parameters are float32 and cast to bfloat16 at every layer"
    return _case("lenet_bf16", LeNet(jnp.bfloat16), images(14, 1), 2 + 3, dtype=jnp.bfloat16, notes=notes)


def resnet_eval() -> Case:
    return _resnet("resnet_eval", ResNet())


def resnet_bf16() -> Case:
    return _resnet("resnet_bf16", ResNet(jnp.bfloat16), dtype=jnp.bfloat16)


def resnet_train() -> Case:
    model, inputs = ResNet(), images()

    def apply(variables, x):
        logits, updates = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return logits, updates["batch_stats"]

    variables = linen_variables(model, *inputs(2, None, 0), train=False)
    notes = "returns (logits, updated batch_stats); the statistics depend on the whole batch"
    return Case("resnet_train", apply, variables, inputs, 1 + 2 + 3 + 1, notes=notes)


def _resnet(name: str, model: ResNet, **more) -> Case:
    apply, inputs = functools.partial(model.apply, train=False), images()
    variables = linen_variables(model, *inputs(2, None, 0), train=False)
    return Case(name, apply, variables, inputs, 1 + 2 + 3 + 1, **more)


def resnext() -> Case:
    return _case("resnext", ResNeXt(), images(), 1 + 2 * 3 + 1, notes="grouped convolutions, 4 groups")


def senet() -> Case:
    return _case("senet", SENet(), images(), 2 * (1 + 2) + 1, notes="Dense layers on (batch, 1, 1, channels)")


def ensemble() -> Case:
    notes = "nn.vmap over the parameters: dots with a batch axis in the weight, convolutions made grouped by batching"
    return _case("ensemble", Ensemble(), images(14, 1), 2 + 3, notes=notes)


CASES = (mlp, lenet, lenet_bf16, resnet_eval, resnet_bf16, resnet_train, resnext, senet, ensemble)
