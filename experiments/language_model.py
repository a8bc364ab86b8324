"""How many bits does a small language model need, and does training with quantization help? A model, a data set, a task
and a metric of one's own in one file.

A causal transformer predicts the next of 12 tokens. The text is drawn from a Markov chain of second order: after any
two tokens come but four, with fixed odds, so that the least perplexity that there can be is known. The model is a Linen
module with a `deterministic` argument; its builder asks for `vocabulary`, which the data set tells.

    qat sweep experiments/language_model.py        # add --fast to try it first

Cost: some ten minutes on 2 cores, 18 trials; the fast edition a tenth of it.

Of PTQ so far, means of 3 seeds: the float model has a perplexity of 3.53 (none can have less than 3.03), w8a8 the same
in a file 3.2 times smaller, w4a8 3.60 in one 4.8 times smaller.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from qat import data, models, tasks
from qat.lab.experiment.config import ExperimentConfig
from qat.tasks.metric import Metric
from qat.train import TrainConfig

ODDS = (0.55, 0.25, 0.15, 0.05)


@data.register
def markov_text(examples: int = 2400, length: int = 33, vocabulary: int = 12) -> data.Dataset:
    """Texts `tokens` int32[length] of a Markov chain of second order; no model's perplexity is below 3.03, the
    exponential of the entropy of its odds."""
    rng = np.random.default_rng(0)
    after = np.array([[rng.permutation(vocabulary)[: len(ODDS)] for _ in range(vocabulary)] for _ in range(vocabulary)])
    tokens = rng.integers(0, vocabulary, (examples, length)).astype(np.int32)
    choice = rng.choice(len(ODDS), (examples, length), p=ODDS)
    for place in range(2, length):
        tokens[:, place] = after[tokens[:, place - 2], tokens[:, place - 1], choice[:, place]]
    first, second = 2 * examples // 3, 5 * examples // 6
    parts = {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, None)}
    splits = {name: data.Columns({"tokens": tokens[part]}) for name, part in parts.items()}
    fingerprint = data.fingerprint(tokens, f"{first},{second}")
    return data.Dataset("markov_text", splits, fingerprint=fingerprint, task="next_token", vocabulary=vocabulary)


@tasks.register
def next_token() -> tasks.Task:
    """Cross-entropy of each token given those before it, from the third on; the perplexity is what counts."""
    metrics = (Metric("perplexity", "lower", decimals=3, margin=0.05, range=(1.0, None)), Metric("nats", "lower"))
    return tasks.Task(metrics, _inputs, _loss, _examples, _summary)


def _inputs(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    return (batch["tokens"][:, :-1],)


def _nats(logits: Array, batch: Mapping[str, Any]) -> Float[Array, " batch"]:
    """The mean cross-entropy of each text; the first two tokens follow from nothing."""
    every = optax.softmax_cross_entropy_with_integer_labels(logits[:, 1:], batch["tokens"][:, 2:])
    return every.mean(1)


def _loss(logits: Array, batch: Mapping[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    value = _nats(logits, batch).mean()
    return value, {"perplexity": jnp.exp(value)}


def _examples(logits: Array, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
    return {"nats": _nats(logits, batch)}


def _summary(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    nats = float(np.mean(arrays["nats"], dtype=np.float64))
    return {"perplexity": float(np.exp(nats)), "nats": nats}


@models.register
def small_lm(vocabulary: int, width: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.1) -> nn.Module:
    """A causal transformer with learned positions; `vocabulary` is how many tokens there are."""
    return LanguageModel(vocabulary, width, layers, heads, dropout)


class LanguageModel(nn.Module):
    """Logits of the next token at every place of a text."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], deterministic: bool
    ) -> Float[Array, "batch length vocabulary"]:
        """Logits; `deterministic` leaves dropout out."""
        place = self.param("place", nn.initializers.normal(0.02), (64, self.width))
        x = nn.Embed(self.vocabulary, self.width, name="token")(tokens) + place[: tokens.shape[1]]
        mask = nn.make_causal_mask(tokens)
        for number in range(self.layers):
            y = nn.LayerNorm(name=f"attention_norm_{number}")(x)
            y = nn.MultiHeadDotProductAttention(self.heads, name=f"attention_{number}")(y, mask=mask)
            x = x + nn.Dropout(self.dropout, deterministic=deterministic)(y)
            y = nn.Dense(4 * self.width, name=f"up_{number}")(nn.LayerNorm(name=f"norm_{number}")(x))
            y = nn.Dense(self.width, name=f"down_{number}")(nn.gelu(y))
            x = x + nn.Dropout(self.dropout, deterministic=deterministic)(y)
        return nn.Dense(self.vocabulary, name="head")(nn.LayerNorm(name="last_norm")(x))


BASE = ExperimentConfig(
    name="language_model",
    model="small_lm(width=64)",
    data="markov_text",
    train=TrainConfig(steps=1500, batch_size=64, learning_rate=3e-3, warmup_steps=100, clip_norm=1.0),
    finetune=TrainConfig(steps=300, batch_size=64, learning_rate=5e-4, warmup_steps=20, clip_norm=1.0),
)
AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **{f"ptq {bits}": {"arm": "ptq", "recipe": bits} for bits in ("w8a8", "w4a8")},
        **{f"qat {bits}": {"arm": "qat", "recipe": bits} for bits in ("w8a8", "w4a8")},
    },
    "seed": [0, 1, 2],
}
FAST = {
    "data": "markov_text(examples=600)",
    "train.steps": 100,
    "train.warmup_steps": 10,
    "finetune.steps": 30,
    "finetune.warmup_steps": 5,
}
FAST_AXES = {"seed": [0, 1]}
