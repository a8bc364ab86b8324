"""BERT, the bidirectional encoder of texts (Devlin et al. 2019, arXiv 1810.04805), with a classifier on top.

Numbers and order of operations are Hugging Face's `BertModel`: LayerNorm after each residual, GELU by the error
function, learned positions, all tokens of type 0. At padding, which means nothing, hidden states and values are zero:
what stands there enters no sum and widens no range.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from qat import models
from qat.registry import did_you_mean

EPSILON = 1e-12  # of LayerNorm
TYPES = 2  # rows of the table of token types, of which a single text uses the first
POOLINGS = ("pooler", "mean")
INIT = nn.initializers.normal(0.02)


class Size(NamedTuple):
    """The dimensions in which sizes differ; `hidden` is the width inside a layer's feed-forward network."""

    layers: int
    width: int
    heads: int
    hidden: int


SIZES = {
    "tiny": Size(2, 128, 2, 512),  # tiny to medium: Turc et al. 2019, arXiv 1908.08962
    "mini": Size(4, 256, 4, 1024),
    "small": Size(4, 512, 8, 2048),
    "medium": Size(8, 512, 8, 2048),
    "minilm": Size(6, 384, 12, 1536),  # Wang et al. 2020, arXiv 2002.10957
    "base": Size(12, 768, 12, 3072),
}


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The Gaussian error linear unit by the error function, not its approximation by tanh (Hendrycks and Gimpel 2016,
    arXiv 1606.08415)."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


class Embeddings(nn.Module):
    """The sum of a token's, its position's and its type's vector, normalized."""

    vocabulary: int
    positions: int
    width: int
    dropout: float

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], mask: Bool[Array, "batch length"], train: bool
    ) -> Float[Array, "batch length width"]:
        """Vectors of tokens, zero at padding."""
        word, position, token_type = (
            nn.Embed(rows, self.width, embedding_init=INIT, name=name)
            for name, rows in (("word", self.vocabulary), ("position", self.positions), ("token_type", TYPES))
        )
        place = jnp.where(mask, jnp.arange(tokens.shape[1]), 0)  # padding has none
        x = word(tokens) + token_type(jnp.zeros_like(tokens)) + position(place)
        x = nn.LayerNorm(EPSILON, name="norm")(x)
        return jnp.where(mask[..., None], nn.Dropout(self.dropout)(x, deterministic=not train), 0)


class Attention(nn.Module):
    """Every position as a mixture of all that are no padding, by several heads."""

    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length width"], mask: Bool[Array, "batch length"], train: bool
    ) -> Float[Array, "batch length width"]:
        """The mixtures of all heads, joined and projected."""
        width = x.shape[-1]
        each = (self.heads, width // self.heads)
        query, key, value = (
            nn.DenseGeneral(each, kernel_init=INIT, name=name)(x) for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query * each[1] ** -0.5, key)
        scores = jnp.where(mask[:, None, None], scores, jnp.finfo(scores.dtype).min)
        weights = nn.Dropout(self.dropout)(nn.softmax(scores), deterministic=not train)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, jnp.where(mask[..., None, None], value, 0))
        return nn.Dense(width, kernel_init=INIT, name="output")(mixed.reshape(x.shape))


class Layer(nn.Module):
    """Attention and a feed-forward network, each with a residual around it and a LayerNorm behind."""

    heads: int
    hidden: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length width"], mask: Bool[Array, "batch length"], train: bool
    ) -> Float[Array, "batch length width"]:
        """Vectors of the input's shape, zero at padding."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = Attention(self.heads, self.dropout, name="attention")(x, mask, train)
        x = nn.LayerNorm(EPSILON, name="attention_norm")(x + drop(y))
        y = gelu(nn.Dense(self.hidden, kernel_init=INIT, name="intermediate")(x))
        y = nn.Dense(x.shape[-1], kernel_init=INIT, name="output")(y)
        return jnp.where(mask[..., None], nn.LayerNorm(EPSILON, name="output_norm")(x + drop(y)), 0)


class Encoder(nn.Module):
    """Texts, given as tokens and the mask that is False at padding, to vectors of their tokens."""

    size: Size
    vocabulary: int
    positions: int
    dropout: float

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], mask: Bool[Array, "batch length"], train: bool
    ) -> list[Float[Array, "batch length width"]]:
        """The vectors of the embeddings and of each layer, zero at padding.

        Raises `ValueError` where the inputs differ in shape or are longer than there are positions.
        """
        if tokens.ndim != 2 or tokens.shape != mask.shape or tokens.shape[1] > self.positions:
            raise ValueError(
                f"`tokens` and `mask` must both be [batch, length] with a length of at most {self.positions}, "
                f"got {tokens.shape} and {mask.shape}. Truncate texts to the positions that the model has."
            )
        real = mask.astype(bool)
        sizes = (self.vocabulary, self.positions, self.size.width)
        states = [Embeddings(*sizes, self.dropout, name="embeddings")(tokens, real, train)]
        for i in range(self.size.layers):
            layer = Layer(self.size.heads, self.size.hidden, self.dropout, name=f"layer_{i}")
            states.append(layer(states[-1], real, train))
        return states


class Bert(nn.Module):
    """Logits of texts; `apply(variables, tokens, mask, method="hidden_states")` gives what is inside."""

    classes: int
    size: Size
    pooling: Literal["pooler", "mean"]
    vocabulary: int
    positions: int
    dropout: float

    def setup(self) -> None:
        """The parts."""
        self.encoder = Encoder(self.size, self.vocabulary, self.positions, self.dropout)
        if self.pooling == "pooler":
            self.pooler = nn.Dense(self.size.width, kernel_init=INIT)
        self.drop = nn.Dropout(self.dropout)
        self.classifier = nn.Dense(self.classes, kernel_init=INIT)

    def __call__(
        self, tokens: Int[Array, "batch length"], mask: Bool[Array, "batch length"], train: bool
    ) -> Float[Array, "batch classes"]:
        """Logits; with `train`, units are dropped by the key of `dropout`."""
        x = self.encoder(tokens, mask, train)[-1]
        if self.pooling == "pooler":
            x = jnp.tanh(self.pooler(x[:, 0]))
        else:
            x = x.sum(1) / jnp.maximum(mask.sum(1, dtype=x.dtype), 1)[:, None]  # padding adds zeros
        return self.classifier(self.drop(x, deterministic=not train))

    def hidden_states(
        self, tokens: Int[Array, "batch length"], mask: Bool[Array, "batch length"]
    ) -> list[Float[Array, "batch length width"]]:
        """The vectors of the embeddings and of each layer in inference, zero at padding."""
        return self.encoder(tokens, mask, train=False)


@models.register
def bert(
    classes: int = 2,
    size: str = "minilm",
    pooling: Literal["pooler", "mean"] = "pooler",
    vocabulary: int = 30522,
    positions: int = 512,
    dropout: float = 0.1,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
) -> Bert:
    """`size` is one of tiny, mini, small, medium, minilm, base; `layers`, `width`, `heads` and `hidden` replace its
    own numbers. `pooling` gives the classifier the first token's vector by a dense layer, or the mean of all.

    Raises `ValueError` for a size or pooling that is unknown and for numbers that do not fit.
    """
    if size not in SIZES:
        raise ValueError(f"`size` must be one of {', '.join(SIZES)}, got {size!r}.{did_you_mean(str(size), SIZES)}")
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` must be one of {', '.join(POOLINGS)}, got {pooling!r}.")
    own = {"layers": layers, "width": width, "heads": heads, "hidden": hidden}
    chosen = SIZES[size]._replace(**{name: number for name, number in own.items() if number is not None})
    counts = {"classes": classes, **chosen._asdict(), "vocabulary": vocabulary, "positions": positions}
    wrong = [f"{name}={n!r}" for name, n in counts.items() if isinstance(n, bool) or not isinstance(n, int) or n < 1]
    if wrong:
        raise ValueError(f"`bert` takes whole numbers of at least 1, got {', '.join(wrong)}.")
    if chosen.width % chosen.heads:
        raise ValueError(f"`width` must be a multiple of `heads`, got {chosen.width} and {chosen.heads}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1), got {dropout}.")
    return Bert(classes, chosen, pooling, vocabulary, positions, dropout)
