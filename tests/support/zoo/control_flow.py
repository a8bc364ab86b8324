"""Models with loops and branches: scanned layers, mixtures of experts, early exits, equilibria."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from .case import Case
from .inputs import features, tokens
from .parameters import fill, linen_variables


class ScannedLayer(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(4, name="attention")(y, mask=mask)
        y = nn.gelu(nn.Dense(64, name="up")(nn.LayerNorm()(x)))
        return x + nn.Dense(x.shape[-1], name="down")(y), None


class ScannedTransformer(nn.Module):
    layers: int = 3

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(50, 32, name="embed")(ids)
        layer = nn.remat(ScannedLayer, prevent_cse=False)
        every_layer: Any = nn.broadcast
        stack = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=every_layer,
            length=self.layers,
        )
        x, _ = stack(name="layers")(x, nn.make_causal_mask(ids))
        return nn.Dense(50, name="head")(x)


class DenseMoE(nn.Module):
    """Switch transformer routing with a fixed capacity: tokens are sent to experts and back by one-hot products."""

    experts: int = 4
    capacity: int = 6

    @nn.compact
    def __call__(self, x):
        width, hidden = x.shape[-1], 32
        gates = nn.softmax(nn.Dense(self.experts, use_bias=False, name="router")(x))
        chosen = nn.one_hot(jnp.argmax(gates, axis=-1), self.experts)
        position = (jnp.cumsum(chosen, axis=1) - 1) * chosen
        dispatch = chosen[..., None] * nn.one_hot(position.astype(jnp.int32), self.capacity)
        combine = dispatch * jnp.sum(gates * chosen, axis=-1)[..., None, None]
        wi = self.param("wi", nn.initializers.lecun_normal(), (self.experts, width, hidden))
        wo = self.param("wo", nn.initializers.lecun_normal(), (self.experts, hidden, width))
        y = jnp.einsum("btec,btd->ebcd", dispatch, x)
        y = nn.relu(jnp.einsum("ebcd,edf->ebcf", y, wi))
        y = jnp.einsum("ebcf,efd->ebcd", y, wo)
        return x + jnp.einsum("btec,ebcd->btd", combine, y)


def scan_remat() -> Case:
    model, inputs = ScannedTransformer(), tokens(50)
    notes = "nn.scan over nn.remat layers: the weights are stacked, each contraction of the body is one equation"
    variables = linen_variables(model, *inputs(2, None, 0))
    return Case("scan_remat", model.apply, variables, inputs, 1 + 8 + 1, length_varies=True, notes=notes)


def moe_dense() -> Case:
    model, inputs = DenseMoE(), features(12, 16)
    variables = linen_variables(model, *inputs(2, None, 0))
    notes = "experts' weights have a batch axis; dispatch and combine multiply activations by one-hot activations"
    return Case("moe_dense", model.apply, variables, inputs, 1 + 4, notes=notes)


def linear(p, x):
    return x @ p["kernel"] + p["bias"]


def dense_shapes(*widths):
    def shape(i, o):
        return {"kernel": jax.ShapeDtypeStruct((i, o), jnp.float32), "bias": jax.ShapeDtypeStruct((o,), jnp.float32)}

    return [shape(i, o) for i, o in itertools.pairwise(widths)]


def expert(p, x):
    return linear(p[1], jax.nn.relu(linear(p[0], x)))


def switch_apply(params, x):
    h = jax.nn.relu(linear(params["stem"], x))
    index = jnp.argmax(linear(params["router"], h).mean(axis=0))
    branches = [functools.partial(expert, p) for p in params["experts"]]
    return linear(params["head"], lax.switch(index, branches, h))


def moe_switch() -> Case:
    (stem,), (router,), (head,) = dense_shapes(12, 16), dense_shapes(16, 3), dense_shapes(16, 5)
    experts = [dense_shapes(16, width, 16) for width in (8, 16, 24)]
    params = fill({"stem": stem, "router": router, "experts": experts, "head": head})
    notes = "lax.switch between three experts of different widths, chosen by the whole batch"
    return Case("moe_switch", switch_apply, params, features(12), 2 + 3 * 2 + 1, notes=notes)


def exit_apply(params, x):
    h = jnp.tanh(linear(params["first"], x))
    logits = linear(params["early"], h)
    sure = jnp.max(jax.nn.softmax(logits), axis=-1).mean() > 0.32

    def deeper(h):
        return linear(params["late"], jnp.tanh(linear(params["second"], h)))

    return lax.cond(sure, lambda _: logits, deeper, h)


def early_exit() -> Case:
    first, second, late = dense_shapes(12, 16, 16, 5)
    (early,) = dense_shapes(16, 5)
    params = fill({"first": first, "second": second, "early": early, "late": late})
    notes = "lax.cond between no contraction and two"
    return Case("early_exit", exit_apply, params, features(12), 2 + 2, notes=notes)


def deq_apply(params, x):
    injected = linear(params["inject"], x)

    def step(z):
        return jnp.tanh(0.5 * linear(params["cell"], z) + injected)

    def unsettled(state):
        count, z, previous = state
        change = (z - previous).ravel()
        return (count < 12) & (jnp.vdot(change, change) > 1e-6)

    def advance(state):
        count, z, _ = state
        return count + 1, step(z), z

    start = jnp.zeros_like(injected)
    _, z, _ = lax.while_loop(unsettled, advance, (0, step(start), start))
    return linear(params["head"], z)


def equilibrium() -> Case:
    cell, head = dense_shapes(16, 16, 4)
    (inject,) = dense_shapes(12, 16)
    notes = "lax.while_loop with a product of activations in the condition (rank 1 by rank 1) and a weight in the body"
    params = fill({"inject": inject, "cell": cell, "head": head})
    return Case("equilibrium", deq_apply, params, features(12), 1 + 1 + 1 + 1 + 1, notes=notes)


def hopfield_apply(params, query, steps):
    patterns = params["patterns"]

    def recall(_, state):
        return 0.5 * state + 0.5 * jax.nn.softmax(2.0 * state @ patterns.T) @ patterns

    return lax.fori_loop(0, steps, recall, lax.fori_loop(0, 3, recall, query))


def hopfield() -> Case:
    sample = features(16)

    def inputs(batch: int, length: int | None = None, seed: int = 0):
        return *sample(batch, length, seed), jnp.int32(2 + seed % 3)

    params = fill({"patterns": jax.ShapeDtypeStruct((10, 16), jnp.float32)})
    notes = (
        "fori_loop of 3 steps (a scan) and of as many as an input says (a while); one weight contracted on both axes"
    )
    return Case("hopfield", hopfield_apply, params, inputs, 2 * 2, notes=notes)


CASES = (scan_remat, moe_dense, moe_switch, early_exit, equilibrium, hopfield)
