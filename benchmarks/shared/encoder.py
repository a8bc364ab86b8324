"""A plain pre-norm transformer encoder for measurements."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each behind a LayerNorm and around a residual."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Vectors to vectors of the same shape."""
        width = x.shape[-1]
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attention")(nn.LayerNorm()(x))
        h = nn.gelu(nn.Dense(4 * width, name="up")(nn.LayerNorm()(x)))
        return x + nn.Dense(width, name="down")(h)


class Encoder(nn.Module):
    """Token ids to one vector of `classes` logits a sequence."""

    layers: int = 4
    width: int = 256
    heads: int = 4
    vocabulary: int = 1000
    classes: int = 2

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Tokens of shape (batch, length) to logits."""
        positions = self.param("positions", nn.initializers.normal(0.02), (512, self.width))
        x = nn.Embed(self.vocabulary, self.width, name="embed")(tokens) + positions[: tokens.shape[1]]
        for i in range(self.layers):
            x = Layer(self.heads, name=f"layer_{i}")(x)
        return nn.Dense(self.classes, name="head")(nn.LayerNorm()(x).mean(1))


def encoder(layers: int = 4, batch: int = 8, length: int = 128, seed: int = 0):
    """The model, its variables, and a batch of tokens."""
    model = Encoder(layers=layers)
    tokens = jax.random.randint(jax.random.key(seed), (batch, length), 0, model.vocabulary)
    return model, jax.jit(model.init)(jax.random.key(seed + 1), tokens), jnp.asarray(tokens)
