"""Transformer encoders in Flax Linen, of texts and of images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .case import Case
from .inputs import images, padded_tokens, tokens
from .parameters import linen_variables

VOCABULARY = 50


class EncoderLayer(nn.Module):
    heads: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, mask=None):
        y = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype, name="attention")(x, x, mask=mask)
        x = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x + y)
        y = nn.gelu(nn.Dense(4 * x.shape[-1], dtype=self.dtype, name="intermediate")(x))
        y = nn.Dense(x.shape[-1], dtype=self.dtype, name="output")(y)
        return nn.LayerNorm(dtype=self.dtype, name="output_norm")(x + y)


class Bert(nn.Module):
    dtype: Any = jnp.float32
    width: int = 32

    @nn.compact
    def __call__(self, ids, attention_mask, token_types):
        embed = functools.partial(nn.Embed, features=self.width, dtype=self.dtype)
        x = embed(VOCABULARY, name="word")(ids) + embed(2, name="token_type")(token_types)
        x = x + embed(64, name="position")(jnp.arange(ids.shape[1]))
        x = nn.LayerNorm(dtype=self.dtype)(x)
        mask = nn.make_attention_mask(attention_mask > 0, attention_mask > 0)
        for i in range(2):
            x = EncoderLayer(dtype=self.dtype, name=f"layer_{i}")(x, mask)
        pooled = nn.tanh(nn.Dense(self.width, dtype=self.dtype, name="pooler")(x[:, 0]))
        return x, nn.Dense(3, dtype=self.dtype, name="classifier")(pooled)


class ViT(nn.Module):
    width: int = 32

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (4, 4), strides=(4, 4), padding="VALID", name="patch_embed")(x)
        x = x.reshape((x.shape[0], -1, self.width))
        token = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], axis=1)
        x = x + self.param("pos_embed", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        for i in range(2):
            x = EncoderLayer(name=f"block_{i}")(x)
        return nn.Dense(10, name="head")(nn.LayerNorm()(x)[:, 0])


class Albert(nn.Module):
    steps: int = 3

    def setup(self):
        self.embed = nn.Embed(VOCABULARY, 8)
        self.widen = nn.Dense(32)
        self.layer = EncoderLayer()
        self.head = nn.Dense(2)

    def __call__(self, ids):
        x = self.widen(self.embed(ids))
        for _ in range(self.steps):
            x = self.layer(x)
        return self.head(x.mean(axis=1))


class MixerBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
        y = nn.Dense(y.shape[-1], name="token_out")(nn.gelu(nn.Dense(24, name="token_in")(y)))
        x = x + jnp.swapaxes(y, 1, 2)
        y = nn.gelu(nn.Dense(64, name="channel_in")(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1], name="channel_out")(y)


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(32, (4, 4), strides=(4, 4), name="stem")(x)
        x = x.reshape((x.shape[0], -1, x.shape[-1]))
        for _ in range(2):
            x = MixerBlock()(x)
        return nn.Dense(10, name="head")(nn.LayerNorm()(x).mean(axis=1))


class WindowAttention(nn.Module):
    window: int = 4
    heads: int = 2
    shift: int = 0

    @nn.compact
    def __call__(self, x):
        batch, size, _, width = x.shape
        n, w = size // self.window, self.window
        x = jnp.roll(x, (-self.shift, -self.shift), axis=(1, 2))
        x = x.reshape((batch, n, w, n, w, width)).transpose((0, 1, 3, 2, 4, 5)).reshape((-1, w * w, width))
        qkv = nn.Dense(3 * width, name="qkv")(x).reshape((*x.shape[:2], 3, self.heads, -1))
        q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))
        logits = (q @ jnp.swapaxes(k, -1, -2)) * q.shape[-1] ** -0.5 + self.relative_bias()
        x = jnp.swapaxes(jax.nn.softmax(logits) @ v, 1, 2).reshape(x.shape)
        x = nn.Dense(width, name="proj")(x)
        x = x.reshape((batch, n, n, w, w, width)).transpose((0, 1, 3, 2, 4, 5)).reshape((batch, size, size, width))
        return jnp.roll(x, (self.shift, self.shift), axis=(1, 2))

    def relative_bias(self):
        side = 2 * self.window - 1
        table = self.param("relative_bias", nn.initializers.normal(0.02), (side * side, self.heads))
        points = np.stack(np.meshgrid(np.arange(self.window), np.arange(self.window), indexing="ij"), -1).reshape(-1, 2)
        distance = points[:, None] - points[None] + self.window - 1
        return jnp.moveaxis(table[distance[..., 0] * side + distance[..., 1]], -1, 0)


class Swin(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Conv(16, (2, 2), strides=2, name="patch_embed")(x))
        for i, shift in enumerate((0, 2)):
            x = x + WindowAttention(shift=shift, name=f"attention_{i}")(nn.LayerNorm()(x))
            x = x + nn.Dense(16, name=f"down_{i}")(nn.gelu(nn.Dense(32, name=f"up_{i}")(nn.LayerNorm()(x))))
        corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        x = nn.Dense(24, use_bias=False, name="merge")(jnp.concatenate(corners, axis=-1))
        return nn.Dense(10, name="head")(x.mean(axis=(1, 2)))


LAYER = 4 + 2 + 2  # query, key, value, out; two attention products; two Dense


def bert(name: str = "bert", dtype: Any = jnp.float32) -> Case:
    model, sample = Bert(dtype), padded_tokens(VOCABULARY)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        ids, mask = sample(batch, length, seed)
        return ids, mask, (np.arange(ids.shape[1]) > ids.shape[1] // 2) * mask

    variables = linen_variables(model, *inputs(2))
    notes = "attention mask; three embeddings, the one of positions at constant indices"
    lookups = {"constant_lookups": 1, "length_varies": True, "dtype": dtype}
    return Case(name, model.apply, variables, inputs, 2 + 2 * LAYER + 2, notes=notes, **lookups)


def bert_bf16() -> Case:
    return bert("bert_bf16", jnp.bfloat16)


def vit() -> Case:
    model, inputs = ViT(), images()
    notes = "class token and positions are parameters added to activations"
    return Case("vit", model.apply, linen_variables(model, *inputs(2, None, 0)), inputs, 1 + 2 * LAYER + 1, notes=notes)


def albert() -> Case:
    model, inputs = Albert(), tokens(VOCABULARY)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "one layer called three times: three sites for each weight"
    return Case("albert", model.apply, variables, inputs, 2 + 3 * LAYER + 1, length_varies=True, notes=notes)


def mixer() -> Case:
    model, inputs = Mixer(), images()
    notes = "Dense layers over transposed tokens"
    return Case("mixer", model.apply, linen_variables(model, *inputs(2, None, 0)), inputs, 1 + 2 * 4 + 1, notes=notes)


def swin() -> Case:
    model, inputs = Swin(), images()
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "the relative position bias is a gather of a parameter at constant indices: it depends on parameters alone"
    return Case("swin", model.apply, variables, inputs, 1 + 2 * 6 + 1 + 1, constant_lookups=2, notes=notes)


CASES = (bert, bert_bf16, vit, albert, mixer, swin)
