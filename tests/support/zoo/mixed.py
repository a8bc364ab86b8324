"""Models whose values are read in several shapes, along odd axes, or by layers that take turns."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from .case import Case
from .inputs import features, images, series
from .parameters import fill
from .transformed import dense, spec


def routed_apply(params, x):
    tokens = x.reshape(-1, x.shape[-1])
    gates = jax.nn.softmax(tokens @ params["router"]["kernel"])
    best, chosen = lax.top_k(gates, 2)
    share = (best[..., None] * jax.nn.one_hot(chosen, gates.shape[-1])).sum(1).reshape(*x.shape[:2], -1)
    hidden = jax.nn.relu(jnp.einsum("btd,edf->btef", x, params["up"]["kernel"]))
    experts = jnp.einsum("btef,efd->bted", hidden, params["down"]["kernel"])
    return (share[..., None] * experts).sum(2) + x @ params["shared"]["kernel"]


def token_router() -> Case:
    params = fill({"router": dense(16, 4), "up": dense(4, 16, 8), "down": dense(4, 8, 16), "shared": dense(16, 16)})
    notes = "the router reads the tokens flattened, experts and a shared layer read them as they are"
    return Case("token_router", routed_apply, params, series(16), 4, length_varies=True, notes=notes)


def heads_apply(params, x):
    conv = functools.partial(lax.conv_general_dilated, padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    maps = jax.nn.relu(conv(x, params["stem"]["kernel"], (2, 2)))
    return conv(maps, params["dense"]["kernel"], (1, 1)), maps.reshape(len(x), -1) @ params["flat"]["kernel"]


def two_heads() -> Case:
    params = fill({"stem": dense(3, 3, 3, 8), "dense": dense(3, 3, 8, 2), "flat": dense(8 * 8 * 8, 5)})
    notes = "a convolution and a dense layer read one feature map, in two shapes"
    return Case("two_heads", heads_apply, params, images(), 3, notes=notes)


def selective_apply(params, x):
    u, gate = jnp.split(x @ params["in"]["kernel"], 2, -1)
    u = lax.conv_general_dilated(
        u, params["conv"]["kernel"], (1,), [(2, 0)], dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=16
    )
    u = jax.nn.silu(u)
    low, b, c = jnp.split(u @ params["select"]["kernel"], (4, 8), -1)
    step = jax.nn.softplus(low @ params["step"]["kernel"])
    decay = jnp.exp(-step[..., None] * jnp.exp(params["rate"]))
    drive = (step * u)[..., None] * b[:, :, None]

    def then(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    _, h = lax.associative_scan(then, (decay, drive), axis=1)
    y = jnp.einsum("btdn,btn->btd", h, c)
    return (y * jax.nn.silu(gate)) @ params["out"]["kernel"]


def selective_state_space() -> Case:
    kernels = {"in": dense(12, 32), "conv": dense(3, 1, 16), "select": dense(16, 12), "step": dense(4, 16)}
    params = fill({**kernels, "rate": spec(16, 4), "out": dense(16, 12)})
    notes = "Mamba: a depthwise causal convolution, an elementwise associative scan, gated linear units"
    return Case("selective_state_space", selective_apply, params, series(12), 6, length_varies=True, notes=notes)


def matrices_apply(params, x):
    moves = jnp.einsum("tbi,ijk->tbjk", x.swapaxes(0, 1), params["kernel"])
    return lax.associative_scan(jnp.matmul, moves)[-1]


def matrix_scan() -> Case:
    params = jax.tree.map(lambda w: 2.0 * w, fill(dense(8, 4, 4)))
    notes = "an associative scan of matrices over five steps: its dots follow the length, one of them of no matrix"
    return Case("matrix_scan", matrices_apply, params, features(5, 8), 1 + 4, notes=notes)


def turns_apply(params, x):
    def layer(x, parts):
        p, local = parts
        narrow = functools.partial(lambda p, x: x @ p["local"]["kernel"], p)
        wide = functools.partial(lambda p, x: x.mean(1, keepdims=True) @ p["global"]["kernel"] + 0 * x, p)
        return x + jnp.tanh(lax.cond(local, narrow, wide, x)) @ p["mix"]["kernel"], None

    x, _ = lax.scan(layer, x, (params["layers"], jnp.array([True, False, True])))
    return x @ params["head"]["kernel"]


def layers_in_turns() -> Case:
    layers = {"local": dense(3, 8, 8), "global": dense(3, 8, 8), "mix": dense(3, 8, 8)}
    params = fill({"layers": layers, "head": dense(8, 3)})
    notes = "scanned layers, of which a constant flag sends each into one of two branches"
    return Case("layers_in_turns", turns_apply, params, series(8), 2 + 1 + 1, length_varies=True, notes=notes)


def again_apply(params, x):
    def layer(x, w):
        return x + jnp.tanh(x @ w), None

    up, _ = lax.scan(layer, x, params["stack"]["kernel"])
    down, _ = lax.scan(layer, up, params["stack"]["kernel"], reverse=True)
    return down @ params["head"]["kernel"]


def stack_again() -> Case:
    params = fill({"stack": dense(3, 8, 8), "head": dense(8, 3)})
    notes = "one stack of weights scanned forth and back"
    return Case("stack_again", again_apply, params, features(8), 1 + 1 + 1, notes=notes)


def odd_apply(params, x):
    numbers = ("HWNC", "OIHW", "CNHW")
    maps = lax.conv_general_dilated(
        x.transpose(1, 2, 0, 3), params["conv"]["kernel"], (2, 1), [(1, 0), (0, 2)], (1, 2), (2, 1), numbers
    )
    tokens = jnp.tanh(maps).mean(2)  # channels, batch, width
    mixed = lax.dot_general(tokens, params["middle"]["kernel"], (((2,), (0,)), ((0,), (1,))))  # channels, batch, out
    return lax.dot_general(params["last"]["kernel"], mixed, (((2, 0), (0, 2)), ((), ())))


def odd_dimensions() -> Case:
    params = fill({"conv": dense(6, 3, 2, 3), "middle": dense(15, 6, 5), "last": dense(5, 4, 6)})
    params = jax.tree.map(lambda w: 4.0 * w, params)
    notes = "images with the batch third, results with it second; dots with a batch axis in the middle, a weight first"
    return Case("odd_dimensions", odd_apply, params, images(8), 3, notes=notes)


CASES = (token_router, two_heads, selective_state_space, matrix_scan, layers_in_turns, stack_again, odd_dimensions)
