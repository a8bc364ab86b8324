"""Models in Flax NNX, as functions of their split state."""

import functools
import itertools

import jax.numpy as jnp
from flax import nnx

from .case import Case, Inputs
from .inputs import features, images, series, tokens
from .parameters import nnx_split

VOCABULARY = 50


class MLP(nnx.Module):
    def __init__(self, widths: tuple[int, ...], rngs: nnx.Rngs):
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List([nnx.Linear(i, o, rngs=rngs) for i, o in pairs])

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class CNN(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(3, 16, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(16, rngs=rngs)
        self.conv2 = nnx.Conv(16, 24, kernel_size=(3, 3), strides=2, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(24, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(24, 10, rngs=rngs)
        self.pool = functools.partial(nnx.max_pool, window_shape=(2, 2), strides=(2, 2))

    def __call__(self, x):
        x = self.pool(nnx.relu(self.norm1(self.conv1(x))))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.linear(self.dropout(x.mean(axis=(1, 2))))


class Block(nnx.Module):
    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, dropout_rate=0.1, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x, mask=None):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(VOCABULARY, 32, rngs=rngs)
        self.position = nnx.Embed(64, 32, rngs=rngs)
        self.blocks = nnx.List([Block(32, 4, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(32, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids) + self.position(jnp.arange(ids.shape[1]))
        mask = nnx.make_causal_mask(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.embed.attend(self.norm(x))


class Sentiment(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(VOCABULARY, 16, rngs=rngs)
        self.rnn = nnx.RNN(nnx.LSTMCell(16, 24, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(24, 2, rngs=rngs)

    def __call__(self, ids):
        states = jnp.asarray(self.rnn(self.embed(ids)))
        return self.head(states[:, -1])


class Stack(nnx.Module):
    """Layers created by vmap and applied by scan."""

    def __init__(self, rngs: nnx.Rngs, layers: int = 3):
        @nnx.split_rngs(splits=layers)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def create(rngs: nnx.Rngs):
            return Block(16, 2, rngs)

        self.layers = create(rngs)
        self.head = nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def forward(x, block):
            return block(x)

        return self.head(forward(x, self.layers))


class Autoencoder(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.encode = nnx.Sequential(nnx.Linear(20, 16, rngs=rngs), nnx.swish, nnx.Linear(16, 8, rngs=rngs))
        self.expand = nnx.LinearGeneral(8, (4, 4), rngs=rngs)
        self.mix = nnx.Einsum("bij,jk->bik", (4, 6), (6,), rngs=rngs)
        self.collapse = nnx.LinearGeneral((4, 6), 20, axis=(-2, -1), rngs=rngs)
        self.up = nnx.ConvTranspose(1, 3, kernel_size=(4,), strides=2, rngs=rngs)
        self.lora = nnx.LoRA(3, 2, 3, rngs=rngs)

    def __call__(self, x):
        y = self.collapse(self.mix(self.expand(self.encode(x))))
        y = self.up(y[..., None])
        return y + self.lora(y)


def _case(name: str, build, inputs: Inputs, contractions: int, **more) -> Case:
    graphdef, state = nnx_split(build)

    def apply(state, *args):
        return nnx.merge(graphdef, state)(*args)

    return Case(name, apply, state, inputs, contractions, **more)


def nnx_mlp() -> Case:
    return _case("nnx_mlp", lambda rngs: MLP((20, 32, 32, 10), rngs), features(20), 3)


def nnx_cnn() -> Case:
    notes = "BatchNorm in evaluation; the state also holds the key and the counter of a dropout that is off"
    return _case("nnx_cnn", CNN, images(), 2 + 1, notes=notes)


LAYER = 4 + 2 + 2  # query, key, value, out; two attention products; two Linear


def nnx_transformer() -> Case:
    notes = "tied embedding by embed.attend"
    count = 1 + 2 * LAYER + 1
    more = {"constant_lookups": 1, "length_varies": True, "notes": notes}
    return _case("nnx_transformer", Transformer, tokens(VOCABULARY), count, **more)


def nnx_lstm() -> Case:
    return _case("nnx_lstm", Sentiment, tokens(VOCABULARY), 1 + 8 + 1, length_varies=True)


def nnx_scan() -> Case:
    return _case("nnx_scan", Stack, series(16, 6), LAYER + 1, length_varies=True, notes="weights stacked by nnx.vmap")


def nnx_autoencoder() -> Case:
    notes = "Sequential, LinearGeneral, Einsum, a transposed 1-D convolution and LoRA"
    return _case("nnx_autoencoder", Autoencoder, features(20), 2 + 1 + 1 + 1 + 1 + 2, notes=notes)


CASES = (nnx_mlp, nnx_cnn, nnx_transformer, nnx_lstm, nnx_scan, nnx_autoencoder)
