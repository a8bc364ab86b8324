"""What a model is to learn of another one's outputs."""

import jax
from jaxtyping import Array, Float


def divergence(logits: Float[Array, "batch classes"], teacher: Float[Array, "batch classes"]) -> Float[Array, ""]:
    """Kullback-Leibler divergence of the probabilities from the teacher's, in nats, mean over the batch (Hinton et al.
    2015, arXiv 1503.02531, at temperature 1)."""
    own, wanted = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher)
    return (jax.numpy.exp(wanted) * (wanted - own)).sum(-1).mean()
