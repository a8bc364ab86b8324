"""A small model of every form that a builder may return, with inputs, and what it should show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from qat.models.adapter import Forward

FEATURES, CLASSES = 6, 3


@dataclass(frozen=True)
class Form:
    """`build` is registered under its own name. `inputs` and `logits` say where a batch's features go to and where
    the outputs have the logits. A model that is `random` in training draws from its key; `moves` are the collections
    that training changes; `sites` are the paths of its layers."""

    build: Callable[..., Any]
    sites: tuple[str, ...]
    random: bool = False
    moves: tuple[str, ...] = ()
    inputs: Callable[[Any], Any] = lambda x: (x,)
    logits: Callable[[Any], Any] = lambda outputs: outputs


class Usual(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(16, name="first")(x))
        return nn.Dense(self.classes, name="head")(nn.Dropout(0.2, deterministic=not train)(nn.relu(x)))


def linen_train(classes):
    return Usual(classes)


class Plain(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes, name="head")(nn.relu(nn.Dense(16, name="first")(x)))


def linen_without_flag(classes=CLASSES):
    return Plain(classes)


class Noisy(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, deterministic):
        x = nn.relu(nn.Dense(16, name="first")(x))
        if not deterministic:
            x = x + 0.1 * jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(self.classes, name="head")(nn.Dropout(0.2)(x, deterministic=deterministic))


def linen_deterministic(classes):
    return Noisy(classes)


class Centred(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        mean = self.variable("running", "mean", jnp.zeros, x.shape[-1:])
        if self.is_mutable_collection("running") and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
        return nn.Dense(self.classes, name="head")(nn.relu(nn.Dense(16, name="first")(x - mean.value)))


def linen_own_collection(classes):
    return Centred(classes)


class Trees(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, inputs, scale, train=False):
        x = jnp.concatenate([inputs["left"], *inputs["more"]], -1) * scale
        x = nn.relu(nn.Dense(16, name="first")(x))
        return {"logits": nn.Dense(self.classes, name="head")(x), "inside": (x, x.sum(-1))}


def linen_trees(classes):
    return Trees(classes)


class Net(nnx.Module):
    def __init__(self, classes, rngs):
        self.layers = nnx.List([nnx.Linear(FEATURES, 16, rngs=rngs), nnx.Linear(16, 16, rngs=rngs)])
        self.norm = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.dropout, self.head = nnx.Dropout(0.2, rngs=rngs), nnx.Linear(16, classes, rngs=rngs)
        self.count = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        if not self.dropout.deterministic:
            self.count[...] += 1
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.head(self.dropout(self.norm(x)))


def nnx_usual(classes, *, rngs):
    return Net(classes, rngs)


class Stack(nnx.Module):
    """Layers made by vmap, each with a stream of its own, and a flag at the call."""

    def __init__(self, classes, rngs):
        @nnx.split_rngs(splits=2)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def create(rngs):
            norm = nnx.BatchNorm(FEATURES, momentum=0.9, rngs=rngs)
            return nnx.Sequential(nnx.Linear(FEATURES, FEATURES, rngs=rngs), norm, nnx.Dropout(0.2, rngs=rngs))

        self.layers, self.head = create(rngs), nnx.Linear(FEATURES, classes, rngs=rngs)

    def __call__(self, inputs, train):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def through(x, layer):
            return layer(x)

        return (self.head(through(inputs["x"], self.layers)) * (1.5 if train else 1.0),)


def nnx_scanned(classes, rngs):
    return Stack(classes, rngs)


def functions_with_key(classes, width=16):
    def init(key, x):
        first, second = jax.random.split(key)
        layers = [{"w": 0.4 * jax.random.normal(first, (x.shape[-1], width)), "b": jnp.zeros(width)}]
        return layers, ({"w": 0.4 * jax.random.normal(second, (width, classes))},)

    def apply(params, x, key):
        [layer], (head,) = params
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return (x if key is None else x * jax.random.bernoulli(key, 0.8, x.shape) / 0.8) @ head["w"]

    return init, apply


def functions_without_key(classes):
    return lambda key, x: 0.4 * jax.random.normal(key, (x.shape[-1], classes)), lambda w, x: x @ w


def forward_itself(classes):
    def init(key, x):
        return {"params": {"w": 0.4 * jax.random.normal(key, (x.shape[-1], classes))}, "state": {"n": jnp.zeros(())}}

    def training(variables, x, key):
        noise = 0.01 * jax.random.normal(key, x.shape)
        return (x + noise) @ variables["params"]["w"], {"state": {"n": variables["state"]["n"] + 1}}

    return Forward(init, training, lambda variables, x: x @ variables["params"]["w"])


def halves(x):
    """Features as a dict of arrays, and a number for each example."""
    return {"left": x[:, :2], "more": [x[:, 2:4], x[:, 4:]]}, np.ones((len(x), 1), np.float32)


FORMS = {
    form.build.__name__: form
    for form in (
        Form(linen_train, ("Usual/first", "Usual/head"), random=True, moves=("batch_stats",)),
        Form(linen_without_flag, ("Plain/first", "Plain/head")),
        Form(linen_deterministic, ("Noisy/first", "Noisy/head"), random=True),
        Form(linen_own_collection, ("Centred/first", "Centred/head"), moves=("running",)),
        Form(linen_trees, ("Trees/first", "Trees/head"), inputs=halves, logits=lambda outputs: outputs["logits"]),
        Form(nnx_usual, ("layers/0", "layers/1", "head"), random=True, moves=("batch_stats", "state")),
        Form(
            nnx_scanned,
            ("layers/layers/0", "head"),
            random=True,
            moves=("batch_stats",),
            inputs=lambda x: {"x": x},
            logits=lambda outputs: outputs[0],
        ),
        Form(functions_with_key, ("0/0", "1/0"), random=True),
        Form(functions_without_key, ("w",)),
        Form(forward_itself, ("w",), random=True, moves=("state",)),
    )
}
