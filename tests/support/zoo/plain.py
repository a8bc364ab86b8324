"""Models written as plain JAX functions, with parameters in nested dicts, lists and named tuples."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import Case
from .inputs import features
from .parameters import fill


class Linear(NamedTuple):
    kernel: Any
    bias: Any


class Block(NamedTuple):
    norm: dict[str, Any]
    layers: tuple[Linear, Linear]


def spec(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def linear_spec(i: int, o: int) -> Linear:
    return Linear(spec(i, o), spec(o))


@jax.jit
def apply_linear(p: Linear, x):
    return jnp.dot(x, p.kernel) + p.bias


@jax.jit
def apply_block(p: Block, x):
    y = p.norm["scale"] * (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    return x + apply_linear(p.layers[1], jax.nn.silu(apply_linear(p.layers[0], y)))


def residual_apply(params, x):
    x = apply_linear(params["stem"], x)
    for block in params["blocks"]:
        x = apply_block(block, x)
    return {"logits": apply_linear(params["head"], x), "features": x}


def nested_residual() -> Case:
    blocks = [Block({"scale": spec(16)}, (linear_spec(16, 32), linear_spec(32, 16))) for _ in range(3)]
    params = fill({"stem": linear_spec(12, 16), "blocks": blocks, "head": linear_spec(16, 5)})
    notes = "jitted functions inside, the same jaxpr called with different weights; named tuples in lists in a dict"
    return Case("nested_residual", residual_apply, params, features(12), 1 + 3 * 2 + 1, notes=notes)


def nchw_apply(params, x):
    for kernel in params["convs"]:
        x = jax.nn.relu(lax.conv(x, kernel, (2, 2), "SAME"))
    x = lax.conv_with_general_padding(x, params["wide"], (1, 1), [(1, 1), (1, 1)], None, (2, 2))
    return jnp.tensordot(x.mean(axis=(2, 3)), params["head"], axes=([1], [1]))


def nchw_convnet() -> Case:
    params = fill({"convs": [spec(8, 3, 3, 3), spec(16, 8, 3, 3)], "wide": spec(16, 16, 3, 3), "head": spec(5, 16)})
    params = jax.tree.map(lambda w: 2.0 * w, params)
    notes = "channels first, kernels OIHW; the head contracts its second axis"
    return Case("nchw_convnet", nchw_apply, params, features(3, 12, 12), 2 + 1 + 1, notes=notes)


def vmapped_apply(params, x):
    def one(example):
        h = jnp.tanh(params["w1"] @ example + params["b1"])
        return params["w2"] @ h, jnp.inner(h, params["u"])

    return jax.vmap(one)(x)


def vmapped_vectors() -> Case:
    params = fill({"w1": spec(16, 12), "b1": spec(16), "w2": spec(4, 16), "u": spec(16)})
    params = jax.tree.map(lambda w: 3.0 * w, params)
    notes = "written for one example and vmapped: weights on the left, one of them a vector"
    return Case("vmapped_vectors", vmapped_apply, params, features(12), 3, notes=notes)


FREQUENCIES = np.random.default_rng(7).standard_normal((3, 16)).astype(np.float32)


def nerf_apply(params, points):
    angles = points @ FREQUENCIES
    x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    hidden = lax.map(functools.partial(nerf_trunk, params["trunk"]), x)
    return apply_linear(params["colour"], hidden), jax.nn.softplus(apply_linear(params["density"], hidden))


def nerf_trunk(layers, x):
    for layer in layers:
        x = jax.nn.relu(x @ layer.kernel + layer.bias)
    return x


def nerf() -> Case:
    trunk = (linear_spec(32, 24), linear_spec(24, 24))
    params = fill({"trunk": trunk, "colour": linear_spec(24, 3), "density": linear_spec(24, 1)})
    notes = "Fourier features: a dot with a constant that is no parameter; the trunk in lax.map over examples"
    return Case("nerf", nerf_apply, params, features(9, 3), 1 + 2 + 2, notes=notes)


def graph_apply(params, x, adjacency):
    degree = adjacency @ jnp.ones(adjacency.shape[-1], jnp.int32)
    scale = lax.rsqrt(degree.astype(jnp.float32) + 1.0)
    mixing = scale[:, :, None] * (adjacency.astype(jnp.float32) + jnp.eye(x.shape[1])) * scale[:, None, :]
    x = jax.nn.relu(mixing @ (x @ params["first"]))
    return (mixing @ x @ params["second"]).max(axis=1)


def graph_network() -> Case:
    sample = features(7, 6)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        edges = np.random.default_rng(seed).random((batch, 7, 7)) < 0.3
        return *sample(batch, None, seed), (edges | edges.swapaxes(1, 2)).astype(np.int32)

    params = fill({"first": spec(6, 16), "second": spec(16, 4)})
    params = jax.tree.map(lambda w: 4.0 * w, params)
    notes = "the degree of a node is a dot of integers (int32 already, nothing to quantize); products with an input"
    return Case("graph_network", graph_apply, params, inputs, 1 + 2 + 2, notes=notes)


CASES = (nested_residual, nchw_convnet, vmapped_vectors, nerf, graph_network)
