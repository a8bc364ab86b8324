"""Recurrent models in Flax Linen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .case import Case
from .inputs import features, images, padded_tokens, series, tokens
from .parameters import linen_variables

VOCABULARY = 50


class TextLSTM(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(VOCABULARY, 16)(ids)
        x: Any = nn.RNN(nn.LSTMCell(24), name="lstm")(x)
        return nn.Dense(3)(x[:, -1])


class Forecaster(nn.Module):
    @nn.compact
    def __call__(self, x):
        lower: Any = nn.RNN(nn.GRUCell(16), name="lower")(x)
        carry, upper = nn.RNN(nn.GRUCell(16), name="upper", return_carry=True)(lower)
        return nn.Dense(4)(upper), carry


class Tagger(nn.Module):
    @nn.compact
    def __call__(self, ids, mask):
        x = nn.Embed(VOCABULARY, 16)(ids)
        forward, backward = (nn.RNN(nn.OptimizedLSTMCell(12), name=name) for name in ("forward", "backward"))
        x = nn.Bidirectional(forward, backward)(x, seq_lengths=mask.sum(axis=1))
        return nn.Dense(5)(x)


class VideoPredictor(nn.Module):
    @nn.compact
    def __call__(self, frames):
        x: Any = nn.RNN(nn.ConvLSTMCell(6, (3, 3)))(frames)
        return nn.Conv(1, (1, 1))(x[:, -1])


class Seq2SeqSampler(nn.Module):
    """Encodes a sequence and decodes greedily, each prediction fed back as the next input."""

    steps: int = 5

    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(VOCABULARY, 16, name="embed")
        carry, _ = nn.RNN(nn.GRUCell(16), return_carry=True, name="encoder")(embed(ids))
        decode = nn.scan(DecoderStep, variable_broadcast="params", split_rngs={"params": False}, length=self.steps)
        start = jnp.zeros(ids.shape[0], jnp.int32)
        _, logits = decode(embed, name="decoder")((carry, start), None)
        return jnp.swapaxes(logits, 0, 1)


class DecoderStep(nn.Module):
    embed: nn.Module

    @nn.compact
    def __call__(self, state, _):
        carry, token = state
        carry, y = nn.GRUCell(16, name="cell")(carry, self.embed(token))
        logits = nn.Dense(VOCABULARY, name="head")(y)
        return (carry, jnp.argmax(logits, axis=-1).astype(jnp.int32)), logits


class QRNN(nn.Module):
    """Quasi-recurrent: gates by a causal convolution, the recurrence an associative scan without any product."""

    @nn.compact
    def __call__(self, x):
        for i in range(2):
            y = nn.Conv(48, (3,), padding="CAUSAL", name=f"gates_{i}")(x)
            value, forget, out = jnp.split(y, 3, axis=-1)
            forget = nn.sigmoid(forget)
            pairs = (forget, (1 - forget) * nn.tanh(value))
            _, state = jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), pairs, axis=1)
            x = nn.sigmoid(out) * state
        return nn.Dense(4)(x)


def _case(name: str, model: nn.Module, inputs, contractions: int, length_varies: bool = True, notes: str = "") -> Case:
    variables = linen_variables(model, *inputs(2, None, 0))
    return Case(name, model.apply, variables, inputs, contractions, length_varies=length_varies, notes=notes)


def lstm() -> Case:
    return _case("lstm", TextLSTM(), tokens(VOCABULARY), 1 + 8 + 1, notes="eight Dense in the body of a scan")


def gru() -> Case:
    return _case("gru", Forecaster(), series(4), 2 * 6 + 1, notes="two stacked GRUs; returns the carry too")


def bilstm() -> Case:
    notes = "OptimizedLSTMCell concatenates its kernels in the scan's body; sequences flipped by their own lengths"
    return _case("bilstm", Tagger(), padded_tokens(VOCABULARY), 1 + 2 * 2 + 1, notes=notes)


def conv_lstm() -> Case:
    def frames(batch: int, length: int | None = None, seed: int = 0):
        return (np.stack([images(8, 2)(batch, None, seed + t)[0] for t in range(length or 4)], axis=1),)

    return _case("conv_lstm", VideoPredictor(), frames, 2 + 1, notes="convolutions in the body of a scan")


def greedy_decoder() -> Case:
    notes = "an embedding shared by the outside and the body of a scan, where its indices are the carry (an argmax)"
    return _case("greedy_decoder", Seq2SeqSampler(), tokens(VOCABULARY), 1 + 6 + 1 + 6 + 1, notes=notes)


def qrnn() -> Case:
    return _case("qrnn", QRNN(), features(12, 8), 2 + 1, length_varies=False, notes="associative_scan, no loop left")


CASES = (lstm, gru, bilstm, conv_lstm, greedy_decoder, qrnn)
