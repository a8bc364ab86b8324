"""Attention in other spellings: einsum, latent queries, linear attention, generalised dense layers."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .case import Case
from .inputs import features, series
from .parameters import fill, linen_variables


def einsum_apply(params, x):
    q = jnp.einsum("btd,hdk->bhtk", x, params["q"])
    k = jnp.einsum("btd,hdk->bhtk", x, params["k"])
    v = jnp.einsum("btd,hdk->bhtk", x, params["v"])
    weights = jax.nn.softmax(jnp.einsum("bhqk,bhmk->bhqm", q, k) / jnp.sqrt(k.shape[-1]))
    return jnp.einsum("bhqm,bhmk,hkd->bqd", weights, v, params["out"])


def einsum_attention() -> Case:
    shapes = {name: jax.ShapeDtypeStruct((4, 32, 8), jnp.float32) for name in "qkv"}
    params = fill({**shapes, "out": jax.ShapeDtypeStruct((4, 8, 32), jnp.float32)})
    params = jax.tree.map(lambda w: 2.0 * w, params)
    notes = "heads first; the last einsum has three operands, jax splits it into two dots"
    return Case("einsum_attention", einsum_apply, params, series(32, 10), 3 + 1 + 2, length_varies=True, notes=notes)


class GeneralDense(nn.Module):
    """Kernels with several contracted axes, and several batch axes of the input."""

    @nn.compact
    def __call__(self, x):
        y = nn.DenseGeneral((4, 6), axis=(-2, -1), name="both")(x)
        y = nn.gelu(y)
        y = nn.Einsum((4, 6, 3, 5), "bthd,hdkl->btkl", name="einsum")(y)
        y = nn.DenseGeneral(8, axis=(1, -1), name="across")(y)
        return nn.DenseGeneral(2, axis=-1, batch_dims=(0,), name="per_example")(y.swapaxes(0, 1))


def general_dense() -> Case:
    model, inputs = GeneralDense(), features(5, 3, 8)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "contraction over two axes, also ones not adjacent; the last kernel has a batch axis of its own"
    return Case("general_dense", model.apply, variables, inputs, 4, notes=notes)


class Perceiver(nn.Module):
    latents: int = 6

    @nn.compact
    def __call__(self, x):
        latent = self.param("latents", nn.initializers.normal(0.02), (self.latents, 16))
        q = nn.Dense(16, name="query")(nn.LayerNorm(name="query_norm")(latent))
        k, v = nn.Dense(16, name="key")(x), nn.Dense(16, name="value")(x)
        z = jax.nn.softmax(jnp.einsum("qd,bkd->bqk", q, k) / 4.0) @ v
        z = nn.MultiHeadDotProductAttention(2, name="latent_attention")(nn.Dense(16, name="out")(z))
        return nn.Dense(5, name="head")(z.mean(axis=1))


def perceiver() -> Case:
    model, inputs = Perceiver(), series(16)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "the query projection multiplies two parameters: it depends on no input"
    count = 1 + 2 + 2 + 1 + 6 + 1
    return Case("perceiver", model.apply, variables, inputs, count, length_varies=True, notes=notes)


class LinearAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        q, k, v = (nn.DenseGeneral((2, 8), name=name)(x) for name in ("q", "k", "v"))
        q, k = nn.elu(q) + 1, nn.elu(k) + 1
        memory = jnp.einsum("bthk,bthv->bhkv", k, v)
        scale = 1 / (jnp.einsum("bthk,bhk->bth", q, k.sum(axis=1)) + 1e-6)
        y = jnp.einsum("bthk,bhkv->bthv", q, memory) * scale[..., None]
        return x + nn.DenseGeneral(x.shape[-1], axis=(-2, -1), name="out")(y)


def linear_attention() -> Case:
    model, inputs = LinearAttention(), series(16)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "contracts over the sequence; one product is a matrix by a vector per head"
    return Case("linear_attention", model.apply, variables, inputs, 3 + 3 + 1, length_varies=True, notes=notes)


class Detr(nn.Module):
    """Object queries that attend to a feature map; outputs boxes and classes."""

    queries: int = 5

    @nn.compact
    def __call__(self, feature_map):
        memory = nn.Conv(16, (1, 1), name="input_proj")(feature_map)
        memory = memory.reshape((memory.shape[0], -1, 16)) + positions(feature_map.shape[1], 16)
        queries = nn.Embed(self.queries, 16, name="query_embed").embedding
        target = jnp.broadcast_to(queries, (memory.shape[0], *queries.shape))
        y = nn.LayerNorm()(target + nn.MultiHeadDotProductAttention(2, name="cross")(target, memory))
        y = y + nn.Dense(16)(nn.relu(nn.Dense(32)(y)))
        return nn.Dense(4, name="classes")(y), nn.sigmoid(nn.Dense(4, name="boxes")(y))


def positions(side: int, width: int) -> np.ndarray:
    rates = 100.0 ** -np.linspace(0, 1, width // 4)
    angles = np.arange(side)[:, None] * rates
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    rows, columns = np.repeat(waves, side, axis=0), np.tile(waves, (side, 1))
    return np.concatenate([rows, columns], axis=-1).astype(np.float32)


def detr() -> Case:
    model, inputs = Detr(), features(6, 6, 24)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "queries made of a broadcast parameter: the projection of the queries depends on parameters alone"
    return Case("detr", model.apply, variables, inputs, 1 + 6 + 2 + 2, notes=notes)


CASES = (einsum_attention, general_dense, perceiver, linear_attention, detr)
