"""Text classifiers in Flax Linen that use no attention."""

import jax.numpy as jnp
from flax import linen as nn

from .case import Case
from .inputs import padded_tokens, tokens
from .parameters import linen_variables

VOCABULARY = 50


class TextCNN(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(VOCABULARY, 24)(ids)
        pooled = [
            nn.relu(nn.Conv(16, (size,), padding="VALID", name=f"conv_{size}")(x)).max(axis=1) for size in (2, 3, 4)
        ]
        return nn.Dense(4)(jnp.concatenate(pooled, axis=-1))


class FastText(nn.Module):
    @nn.compact
    def __call__(self, ids, mask):
        bigrams = (ids[:, :-1] * 31 + ids[:, 1:]) % 64
        words = nn.Embed(VOCABULARY, 16, name="words")(ids)
        pairs = nn.Embed(64, 16, name="bigrams")(bigrams)
        total = jnp.einsum("btd,bt->bd", words, mask.astype(words.dtype)) + pairs.sum(axis=1)
        return nn.Dense(4)(total / mask.sum(axis=1, keepdims=True))


class OneHotCharacters(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Dense(16, use_bias=False, name="embed")(nn.one_hot(ids, VOCABULARY))
        x = nn.relu(nn.Conv(24, (3,), strides=2, name="conv")(x))
        last = jnp.take_along_axis(x, jnp.argmax(x, axis=1, keepdims=True), axis=1)[:, 0]
        return nn.Dense(4, name="head")(last)


def _case(name: str, model: nn.Module, inputs, contractions: int, notes: str) -> Case:
    variables = linen_variables(model, *inputs(2, None, 0))
    return Case(name, model.apply, variables, inputs, contractions, length_varies=True, notes=notes)


def text_cnn() -> Case:
    return _case("text_cnn", TextCNN(), tokens(VOCABULARY), 1 + 3 + 1, "1-D convolutions of an embedding")


def fasttext() -> Case:
    return _case("fasttext", FastText(), padded_tokens(VOCABULARY), 2 + 1 + 1, "a masked sum written as a dot")


def one_hot_characters() -> Case:
    notes = "an embedding as a dot with one-hot vectors; a gather from an activation, which is no lookup"
    return _case("one_hot_characters", OneHotCharacters(), tokens(VOCABULARY), 1 + 1 + 1, notes)


CASES = (text_cnn, fasttext, one_hot_characters)
