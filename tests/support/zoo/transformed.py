"""Models made of jax's transformations: rules of their own, remat policies, maps, loops in loops, callbacks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from .case import Case
from .inputs import features, series
from .parameters import fill


def spec(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def dense(*shape: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {"kernel": spec(*shape)}


def reference_attention(q, k, v):
    return jax.nn.softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])) @ v


@jax.custom_vjp
def flash(q, k, v):
    def block(carry, kv):
        best, total, out = carry
        scores = jnp.einsum("btd,bsd->bts", q, kv[0]) / np.sqrt(q.shape[-1])
        new = jnp.maximum(best, scores.max(-1))
        weights, keep = jnp.exp(scores - new[..., None]), jnp.exp(best - new)
        out = out * keep[..., None] + jnp.einsum("bts,bsd->btd", weights, kv[1])
        return (new, total * keep + weights.sum(-1), out), None

    blocks = [x.reshape(x.shape[0], 3, -1, x.shape[-1]).swapaxes(0, 1) for x in (k, v)]
    start = (jnp.full(q.shape[:2], -1e9), jnp.zeros(q.shape[:2]), jnp.zeros_like(q))
    (_, total, out), _ = lax.scan(block, start, blocks)
    return out / total[..., None]


flash.defvjp(lambda q, k, v: (flash(q, k, v), (q, k, v)), lambda saved, g: jax.vjp(reference_attention, *saved)[1](g))


def flash_apply(params, x):
    q, k, v = (x @ params[name]["kernel"] for name in ("query", "key", "value"))
    return flash(q, k, v) @ params["out"]["kernel"]


def flash_attention() -> Case:
    params = fill({name: dense(16, 16) for name in ("query", "key", "value", "out")})
    notes = "a custom_vjp function that scans over blocks of keys with a running softmax"
    return Case("flash_attention", flash_apply, params, features(12, 16), 4 + 2, notes=notes)


def remat_apply(params, x):
    def block(p, x):
        h = checkpoint_name(jax.nn.gelu(x @ p["up"]["kernel"]), "hidden")
        return x + h @ p["down"]["kernel"]

    policies = jax.checkpoint_policies
    for p, policy in zip(
        params["blocks"],
        (policies.save_only_these_names("hidden"), policies.dots_with_no_batch_dims_saveable, None),
        strict=True,
    ):
        x = jax.checkpoint(block, policy=policy, prevent_cse=policy is None)(p, x)
    return x @ params["head"]["kernel"]


def remat_policies() -> Case:
    blocks = [{"up": dense(16, 24), "down": dense(24, 16)} for _ in range(3)]
    params = fill({"blocks": blocks, "head": dense(16, 4)})
    notes = "three policies of what remat keeps, one by name"
    return Case("remat_policies", remat_apply, params, features(16), 3 * 2 + 1, notes=notes)


def picked_apply(params, x):
    def member(i):
        return jnp.tanh(x @ params["in"]["kernel"][i]) @ params["out"]["kernel"][i]

    return lax.map(member, jnp.arange(3)).mean(0)


def picked_ensemble() -> Case:
    params = fill({"in": dense(3, 12, 16), "out": dense(3, 16, 4)})
    notes = "lax.map over the members' numbers: which weights a turn takes, a scanned constant says"
    return Case("picked_ensemble", picked_apply, params, features(12), 2, notes=notes)


def mapped_apply(params, x):
    def member(p, x):
        return jax.nn.relu(x @ p["in"]["kernel"] + p["bias"]) @ p["out"]["kernel"]

    return jax.vmap(member, in_axes=(0, None))(params, x).mean(0)


def mapped_ensemble() -> Case:
    params = fill({"in": dense(3, 12, 16), "bias": spec(3, 16), "out": dense(3, 16, 4)})
    notes = "vmap over the members' parameters alone: one dot has a batch axis, the other does not"
    return Case("mapped_ensemble", mapped_apply, params, features(12), 2, notes=notes)


def nested_apply(params, x):
    def layer(below, parts):
        p, h = parts
        h = jnp.tanh(below @ p["in"]["kernel"] + h @ p["own"]["kernel"])
        return h, h

    def step(states, x):
        top, states = lax.scan(layer, x, (params["layers"], states))
        top = lax.fori_loop(
            0, jnp.int32(top.shape[0]), lambda _, t: t + 0.1 * jnp.tanh(t @ params["refine"]["kernel"]), top
        )
        return states, top

    _, tops = lax.scan(step, jnp.zeros((2, x.shape[0], 8)), x.swapaxes(0, 1))
    return tops.swapaxes(0, 1) @ params["head"]["kernel"]


def nested_loops() -> Case:
    params = fill({"layers": {"in": dense(2, 8, 8), "own": dense(2, 8, 8)}, "refine": dense(8, 8), "head": dense(8, 3)})
    notes = "time outside, layers and a while inside: weights are sliced by the inner scan alone"
    return Case("nested_loops", nested_apply, params, series(8), 2 + 1 + 1, length_varies=True, notes=notes)


def called_apply(params, x):
    h = x @ params["in"]["kernel"]
    jax.debug.callback(lambda _: None, h.mean())
    h = jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(h.shape, h.dtype), h, vmap_method="expand_dims")
    return h @ params["out"]["kernel"]


def callbacks() -> Case:
    params = fill({"in": dense(12, 16), "out": dense(16, 4)})
    notes = "a function of the host between two layers, and one that only looks"
    return Case("callbacks", called_apply, params, features(12), 2, notes=notes)


def chosen_apply(params, x):
    def one(x):
        return jax.nn.relu(x @ params["first"]["kernel"])

    def other(x):
        return jax.nn.relu(jnp.einsum("bi,ij->bj", x, params["first"]["kernel"]))

    return lax.platform_dependent(x, cpu=one, default=other) @ params["second"]["kernel"]


def platform_choice() -> Case:
    params = fill({"first": dense(12, 16), "second": dense(16, 4)})
    notes = "a branch for each platform: no run on one reaches those of others"
    return Case("platform_choice", chosen_apply, params, features(12), 2 + 1, notes=notes)


@jax.custom_vjp
def slowed(w):
    return w


slowed.defvjp(lambda w: (w, None), lambda _, g: (0.1 * g,))


def slowed_apply(params, x):
    return jnp.tanh(x @ slowed(params["first"]["kernel"])) @ params["second"]["kernel"]


def slowed_weight() -> Case:
    params = fill({"first": dense(12, 16), "second": dense(16, 4)})
    notes = "a weight goes through an identity whose rule scales the gradient"
    return Case("slowed_weight", slowed_apply, params, features(12), 2, notes=notes)


CASES = (
    flash_attention,
    remat_policies,
    picked_ensemble,
    mapped_ensemble,
    nested_loops,
    callbacks,
    platform_choice,
    slowed_weight,
)
