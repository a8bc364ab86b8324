"""Models with derivative rules of their own, or with derivatives inside."""

import functools

import jax
import jax.numpy as jnp

from .case import Case
from .inputs import features
from .parameters import fill


def spec(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@jax.custom_vjp
def clipped_matmul(x, w):
    return x @ w


def _clipped_forward(x, w):
    return x @ w, (x, w)


def _clipped_backward(saved, g):
    x, w = saved
    g = jnp.clip(g, -1.0, 1.0)
    return g @ w.T, x.T @ g


clipped_matmul.defvjp(_clipped_forward, _clipped_backward)


def clipped_apply(params, x):
    x = jax.nn.gelu(clipped_matmul(x, params["first"]) + params["bias"])
    return clipped_matmul(x, params["second"])


def custom_vjp_matmul() -> Case:
    params = fill({"first": spec(12, 24), "bias": spec(24), "second": spec(24, 5)})
    params = jax.tree.map(lambda w: 3.0 * w, params)
    return Case(
        "custom_vjp_matmul", clipped_apply, params, features(12), 2, notes="the dots are inside custom_vjp calls"
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scaled_layer(activation, p, x):
    return activation(x @ p["w"] + p["b"])


def _layer_forward(activation, p, x):
    return jax.vjp(functools.partial(_layer, activation), p, x)


def _layer(activation, p, x):
    return activation(x @ p["w"] + p["b"])


def _layer_backward(activation, pullback, g):
    return pullback(g * 0.5)


scaled_layer.defvjp(_layer_forward, _layer_backward)


@jax.custom_jvp
def swish(x):
    return x * jax.nn.sigmoid(x)


@swish.defjvp
def _swish_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    s = jax.nn.sigmoid(x)
    return x * s, t * (s + x * s * (1 - s))


@jax.custom_jvp
def projected(x, w):
    return jnp.tanh(x @ w)


projected.defjvps(lambda t, y, x, w: (t @ w) * (1 - y * y), lambda t, y, x, w: (x @ t) * (1 - y * y))


def custom_apply(params, x):
    for layer in params["layers"]:
        x = scaled_layer(swish, layer, x)
    return projected(x, params["out"])


def custom_rules() -> Case:
    layers = [{"w": spec(12, 16), "b": spec(16)}, {"w": spec(16, 16), "b": spec(16)}]
    params = jax.tree.map(lambda w: 3.0 * w, fill({"layers": layers, "out": spec(16, 4)}))
    notes = (
        "custom_vjp layers with a custom_jvp activation as their static argument; a dot inside a custom_jvp function"
    )
    return Case("custom_rules", custom_apply, params, features(12), 2 + 1, notes=notes)


def potential(params, positions):
    pairs = positions[:, None] - positions[None]
    distance = jnp.sqrt(jnp.sum(pairs**2, axis=-1) + 0.1)
    basis = jnp.exp(-((distance[..., None] - jnp.linspace(0.0, 3.0, 8)) ** 2))
    hidden = jnp.tanh(basis @ params["first"])
    return jnp.sum(jnp.tanh(hidden @ params["second"]) @ params["out"])


def forces_apply(params, positions):
    energy, gradient = jax.vmap(jax.value_and_grad(functools.partial(potential, params)))(positions)
    return energy, -gradient


def force_field() -> Case:
    params = fill({"first": spec(8, 16), "second": spec(16, 16), "out": spec(16)})
    params = jax.tree.map(lambda w: 3.0 * w, params)
    notes = "the model's output is a gradient: three dots forward, three backward; in one both operands carry no input"
    return Case("force_field", forces_apply, params, features(5, 3), 3 + 3, notes=notes)


CASES = (custom_vjp_matmul, custom_rules, force_field)
