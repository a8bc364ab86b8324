"""Small networks for post-training methods: convolutions with a depthwise one and norms; a transformer that normalises
first."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from zoo.parameters import linen_variables

from qat import quantize
from qat.ptq import Subject


class Mobile(nn.Module):
    """Expanding, depthwise and projecting convolutions, the first two with norms; pooling; a head."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, name="n1")(nn.Conv(8, (1, 1), name="expand")(x)))
        x = nn.Conv(8, (3, 3), feature_group_count=8, name="depthwise")(x)
        x = nn.max_pool(nn.leaky_relu(nn.BatchNorm(not train, momentum=0.9, name="n2")(x)), (2, 2))
        x = nn.relu(nn.Conv(6, (1, 1), name="project")(x))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Block(nn.Module):
    """Attention and two layers, each behind a norm and beside what it adds to."""

    @nn.compact
    def __call__(self, x, train=False):
        h = nn.LayerNorm(name="ln1")(x)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(h, h)
        h = nn.LayerNorm(name="ln2")(x)
        x = x + nn.Dense(8, name="down")(nn.relu(nn.Dense(16, name="up")(h)))
        return nn.Dense(3, name="head")(x.mean(1))


SHAPES = {"cnn": (6, 6, 3), "transformer": (5, 8)}
MODELS = {"cnn": Mobile(), "transformer": Block()}


def batches_of(name, count=2, size=8):
    """Batches of inputs."""
    rngs = [np.random.default_rng(10 + i) for i in range(count)]
    return [jnp.asarray(rng.standard_normal((size, *SHAPES[name])), jnp.float32) for rng in rngs]


def variables_of(name):
    """Variables away from their start, where norms do nothing."""
    return linen_variables(MODELS[name], batches_of(name)[0])


def subject_of(name, rules):
    """The quantized function with all that a method may need."""
    net = MODELS[name]
    mutable = ["batch_stats"]
    training = quantize(lambda v, x: net.apply(v, x, train=True, mutable=mutable), rules)
    labels = [jnp.arange(8) % 3] * 2
    return Subject(quantize(net.apply, rules), training, loss=cross_entropy, targets=labels)


def cross_entropy(outputs, labels):
    """The mean cross-entropy of logits."""
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], -1).mean()
