"""Autoregressive and sequence-to-sequence transformers in Flax Linen."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .case import Case
from .inputs import padded_tokens, tokens
from .parameters import linen_variables

VOCABULARY = 50


class Block(nn.Module):
    dropout: float = 0.0
    decode: bool = False

    @nn.compact
    def __call__(self, x, mask=None, train: bool = False):
        attention = nn.MultiHeadDotProductAttention(4, dropout_rate=self.dropout, decode=self.decode, name="attn")
        x = x + attention(nn.LayerNorm()(x), mask=mask, deterministic=not train)
        y = nn.gelu(nn.Dense(4 * x.shape[-1], name="fc")(nn.LayerNorm()(x)))
        y = nn.Dense(x.shape[-1], name="proj")(y)
        return x + nn.Dropout(self.dropout, deterministic=not train)(y)


class GPT(nn.Module):
    layers: int = 2
    dropout: float = 0.1

    @nn.compact
    def __call__(self, ids, train: bool = False):
        wte = nn.Embed(VOCABULARY, 32, name="wte")
        x = wte(ids) + nn.Embed(64, 32, name="wpe")(jnp.arange(ids.shape[1]))
        mask = nn.make_causal_mask(ids)
        for i in range(self.layers):
            x = Block(self.dropout, name=f"h_{i}")(x, mask, train)
        return wte.attend(nn.LayerNorm(name="ln_f")(x))


class RMSNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def rotate(x, angles):
    first, second = jnp.split(x, 2, axis=-1)
    cos, sin = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class LlamaLayer(nn.Module):
    heads: int = 4
    kv_heads: int = 2

    @nn.compact
    def __call__(self, x, angles):
        width = x.shape[-1]
        size = width // self.heads
        y = RMSNorm(name="input_norm")(x)
        q = rotate(nn.DenseGeneral((self.heads, size), use_bias=False, name="q_proj")(y), angles)
        k = rotate(nn.DenseGeneral((self.kv_heads, size), use_bias=False, name="k_proj")(y), angles)
        v = nn.DenseGeneral((self.kv_heads, size), use_bias=False, name="v_proj")(y)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + nn.DenseGeneral(width, axis=(-2, -1), use_bias=False, name="o_proj")(y)
        y = RMSNorm(name="post_norm")(x)
        gate = nn.silu(nn.Dense(48, use_bias=False, name="gate_proj")(y))
        return x + nn.Dense(width, use_bias=False, name="down_proj")(
            gate * nn.Dense(48, use_bias=False, name="up_proj")(y)
        )


class Llama(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(VOCABULARY, 32, name="embed_tokens")(ids)
        frequencies = 10000.0 ** -jnp.linspace(0, 1, 4, endpoint=False)
        angles = jnp.einsum("i,j->ij", jnp.arange(ids.shape[1], dtype=jnp.float32), frequencies)
        for i in range(2):
            x = LlamaLayer(name=f"layers_{i}")(x, angles)
        return nn.Dense(VOCABULARY, use_bias=False, name="lm_head")(RMSNorm(name="norm")(x))


class Seq2Seq(nn.Module):
    def setup(self):
        self.shared = nn.Embed(VOCABULARY, 32)
        self.encoder = Block()
        self.decoder = Block()
        self.cross = nn.MultiHeadDotProductAttention(4)

    def __call__(self, source, source_mask, target):
        memory = self.encoder(self.shared(source), nn.make_attention_mask(source_mask > 0, source_mask > 0))
        y = self.decoder(self.shared(target), nn.make_causal_mask(target))
        y = y + self.cross(y, memory, mask=nn.make_attention_mask(target >= 0, source_mask > 0))
        return self.shared.attend(y) / jnp.sqrt(32.0)


class CachedLM(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(VOCABULARY, 32, name="embed")(ids)
        x = Block(decode=True, name="block")(x)
        return nn.Dense(VOCABULARY, name="head")(x)


LAYER = 4 + 2 + 2  # query, key, value, out; two attention products; two Dense


def gpt() -> Case:
    model, inputs = GPT(), tokens(VOCABULARY)
    notes = "causal mask; the table of the first embedding is also the last dot (embed.attend)"
    more = {"constant_lookups": 1, "length_varies": True, "notes": notes}
    return Case("gpt", model.apply, linen_variables(model, *inputs(2, None, 0)), inputs, 1 + 2 * LAYER + 1, **more)


def gpt_train() -> Case:
    model, sample = GPT(layers=1), tokens(VOCABULARY)

    def apply(variables, ids, key):
        return model.apply(variables, ids, train=True, rngs={"dropout": key})

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        return *sample(batch, length, seed), jax.random.key(seed)

    notes = "dropout, also of attention weights, from a typed key that is the last input"
    more = {"constant_lookups": 1, "length_varies": True, "notes": notes}
    return Case("gpt_train", apply, linen_variables(model, *sample(2, None, 0)), inputs, 1 + LAYER + 1, **more)


def llama() -> Case:
    model, inputs = Llama(), tokens(VOCABULARY)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "grouped-query attention by jax.nn; rotary angles are one dot of two constants that contracts nothing"
    layer = 4 + 2 + 3
    return Case("llama", model.apply, variables, inputs, 1 + 1 + 2 * layer + 1, length_varies=True, notes=notes)


def seq2seq() -> Case:
    model, source, target = Seq2Seq(), padded_tokens(VOCABULARY), tokens(VOCABULARY, 7)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        return *source(batch, length, seed), *target(batch, length and length - 1, seed + 2)

    notes = "cross attention of two lengths; one embedding used twice and as the head"
    variables = linen_variables(model, *inputs(2))
    return Case("seq2seq", model.apply, variables, inputs, 2 + 2 * LAYER + 6 + 1, length_varies=True, notes=notes)


def cached_decoding() -> Case:
    model, (prompt,) = CachedLM(), tokens(VOCABULARY, 16)(2, None, 0)

    def apply(params, cache, ids):
        logits, updates = model.apply({"params": params, "cache": cache}, ids, mutable=["cache"])
        return logits, updates["cache"]

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        rng = np.random.default_rng(seed)
        past = {
            name: rng.standard_normal((batch, 16, 4, 8)).astype(np.float32) for name in ("cached_key", "cached_value")
        }
        return {"block": {"attn": {**past, "cache_index": np.int32(5)}}}, *tokens(VOCABULARY)(batch, 1, seed)

    notes = "one step of decoding; a nested dict of key-value caches among inputs and outputs"
    params = linen_variables(model, prompt)["params"]
    return Case("cached_decoding", apply, params, inputs, 1 + LAYER + 1, notes=notes)


CASES = (gpt, gpt_train, llama, seq2seq, cached_decoding)
