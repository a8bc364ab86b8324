"""Models of several inputs or several uses of one module: siamese, contrastive, adapted, generated weights."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from .case import Case
from .inputs import features, images, padded_tokens
from .parameters import fill, linen_variables


class Siamese(nn.Module):
    def setup(self):
        self.conv = nn.Conv(12, (3, 3), strides=2)
        self.dense = nn.Dense(16)

    def embed(self, x):
        return self.dense(nn.relu(self.conv(x)).reshape((x.shape[0], -1)))

    def __call__(self, first, second):
        a, b = self.embed(first), self.embed(second)
        norms = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
        return jnp.einsum("bd,bd->b", a, b) / (norms + 1e-6)


def siamese() -> Case:
    model, sample = Siamese(), images(12, 1)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        return *sample(batch, None, seed), *sample(batch, None, seed + 1)

    notes = "one module on two inputs; the cosine is a dot with only a batch and a contracted axis"
    return Case("siamese", model.apply, linen_variables(model, *inputs(2)), inputs, 2 * 2 + 1, notes=notes)


class Clip(nn.Module):
    @nn.compact
    def __call__(self, image, ids, mask):
        x = nn.relu(nn.Conv(16, (4, 4), strides=4, name="image_patches")(image)).mean(axis=(1, 2))
        x = nn.Dense(16, use_bias=False, name="image_projection")(x)
        y = nn.Embed(50, 24, name="text_embed")(ids)
        y = (y * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        y = nn.Dense(16, use_bias=False, name="text_projection")(y)
        x, y = (z / (jnp.linalg.norm(z, axis=-1, keepdims=True) + 1e-6) for z in (x, y))
        return x @ y.T * jnp.exp(self.param("logit_scale", nn.initializers.constant(2.0), ()))


def clip() -> Case:
    model, pictures, texts = Clip(), images(), padded_tokens(50)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        return *pictures(batch, None, seed), *texts(batch, length, seed)

    notes = "the last dot multiplies activations of all examples with each other: batch by batch"
    return Case(
        "clip", model.apply, linen_variables(model, *inputs(2)), inputs, 2 + 2 + 1, length_varies=True, notes=notes
    )


def lora_apply(params, x):
    for layer in params["layers"]:
        base, (down, up) = layer["base"], layer["lora"]
        x = jax.nn.relu(x @ base + 0.5 * (x @ down @ up))
    merged = params["head"]["base"] + params["head"]["lora"][0] @ params["head"]["lora"][1]
    return x @ merged


def lora() -> Case:
    def adapted(i: int, o: int, rank: int = 2):
        shape = jax.ShapeDtypeStruct
        return {
            "base": shape((i, o), jnp.float32),
            "lora": (shape((i, rank), jnp.float32), shape((rank, o), jnp.float32)),
        }

    params = jax.tree.map(
        lambda w: 2.0 * w, fill({"layers": [adapted(12, 16), adapted(16, 16)], "head": adapted(16, 5)})
    )
    notes = "x @ W + x @ A @ B; in the head W + A @ B, a dot of two parameters whose result is a weight"
    return Case("lora", lora_apply, params, features(12), 2 * 3 + 1 + 1, notes=notes)


class HyperNetwork(nn.Module):
    """A kernel computed from a description of the task, applied to the data of that task."""

    @nn.compact
    def __call__(self, task, x):
        h = nn.tanh(nn.Dense(24, name="context")(task))
        kernel = nn.Dense(12 * 8, name="kernel_head")(h).reshape((-1, 12, 8)) / np.sqrt(12)
        bias = nn.Dense(8, name="bias_head")(h)
        y = nn.relu(jax.vmap(lambda x, k, b: x @ k + b)(x, kernel, bias))
        shared = nn.Dense(8 * 4, name="mean_kernel")(h.mean(axis=0)).reshape((8, 4))
        return y @ shared


def hypernetwork() -> Case:
    model, tasks, data = HyperNetwork(), features(6), features(7, 12)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        return *tasks(batch, None, seed), *data(batch, None, seed + 1)

    notes = "where a weight is expected stands an activation: one kernel per example, and one for all"
    return Case("hypernetwork", model.apply, linen_variables(model, *inputs(2)), inputs, 3 + 1 + 1 + 1, notes=notes)


def recommender_apply(params, user, items):
    u = params["users"][user]
    v = params["items"][items]
    adapter = params["group_kernels"][user % 3]
    u = jnp.einsum("bd,bde->be", u, adapter)
    return jnp.einsum("be,bne->bn", u, v) + params["popularity"][items]


def recommender() -> Case:
    def inputs(batch: int, length: int | None = None, seed: int = 0):
        rng = np.random.default_rng(seed)
        return rng.integers(0, 20, batch).astype(np.int32), rng.integers(0, 30, (batch, 5)).astype(np.int32)

    shapes = {"users": (20, 8), "items": (30, 8), "group_kernels": (3, 8, 8), "popularity": (30,)}
    params = fill({name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()})
    params = {name: 5.0 * value for name, value in params.items()}
    notes = "lookups by indexing in tables of 1, 2 and 3 axes; the looked-up matrix is then an operand of a dot"
    return Case("recommender", recommender_apply, params, inputs, 4 + 2, notes=notes)


CASES = (siamese, clip, lora, hypernetwork, recommender)
