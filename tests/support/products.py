"""One function with many products, so that a single compiled program tests them all; and the same in numpy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import fakequant
import integers
import jax
import jax.numpy as jnp
import numpy as np
from convolutions import CONVS

import qat
from qat import QuantRecipe, QuantRule, TensorSpec

CHANNEL = TensorSpec(8, per="channel")
AFFINE = TensorSpec(8, grid="affine")
SPECS = {
    "w8a8": (CHANNEL, AFFINE),
    "w4a4_symmetric": (TensorSpec(4, per="channel"), TensorSpec(4)),
    "w3a4_unsigned": (TensorSpec(3, per="channel"), TensorSpec(4, grid="unsigned")),
    "affine_weights": (TensorSpec(4, grid="affine", per="channel"), TensorSpec(5, grid="affine")),
    "symmetric_activations": (TensorSpec(8, grid="affine"), TensorSpec(8)),
    "dynamic_affine": (CHANNEL, TensorSpec(6, grid="affine", per="token", dynamic=True)),
    "affine_weights_alone": (TensorSpec(8, grid="affine", per="channel"), None),
    "activations_alone": (None, AFFINE),
}
GROUPS = {
    "affine_groups": (TensorSpec(4, grid="affine", per="group", group_size=8), AFFINE),
    "groups_dynamic": (TensorSpec(4, per="group", group_size=8), TensorSpec(8, per="token", dynamic=True)),
    "groups_alone": (TensorSpec(2, per="group", group_size=16), None),
}


@dataclass(frozen=True)
class Product:
    """A product of an input of shape `x` and a weight of shape `w`: in jax, in numpy, and the axes that it sums."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    jax: Callable[[Any, Any], Any]
    numpy: Callable[[Any, Any], Any]
    x_axes: tuple[int, ...]
    w_axes: tuple[int, ...]


def dot(x, w, sums, batch=((), ()), weight_first=False):
    numbers = (sums, batch)
    if not weight_first:
        return Product(
            x, w, lambda x, w: jax.lax.dot_general(x, w, numbers), lambda x, w: integers.dot(x, w, numbers), *sums
        )
    turned = (sums[::-1], batch[::-1])
    return Product(x, w, lambda x, w: jax.lax.dot_general(w, x, turned), lambda x, w: integers.dot(w, x, turned), *sums)


def conv(case):
    lhs, rhs, params = CONVS[case].x, CONVS[case].w, CONVS[case].parameters
    x_kept, w_kept = (spec[0] for spec in params["dimension_numbers"][:2])
    return Product(
        lhs, rhs, lambda x, w: jax.lax.conv_general_dilated(x, w, **params), lambda x, w: integers.conv(x, w, **params),
        tuple(i for i in range(len(lhs)) if i != x_kept), tuple(i for i in range(len(rhs)) if i != w_kept),
    )  # fmt: skip


PRODUCTS = {
    "matrix": dot((16, 5), (16, 7), ((0,), (0,))),
    "batch": dot((2, 3, 16), (3, 16, 4), ((2,), (1,)), ((1,), (0,))),
    "weight_first_batch": dot((5, 3, 16), (3, 7, 16), ((2,), (2,)), ((1,), (0,)), weight_first=True),
    "heads": dot((2, 5, 4, 8), (4, 8, 6), ((2, 3), (0, 1))),
    **{
        f"conv_{case}": conv(case)
        for case in ("padded", "strided_dilated_channels_first", "transposed", "grouped", "depthwise")
    },
}
MOST = ("weight_first_batch", "conv_padded")
ONE_SUM = ("matrix", "weight_first_batch")
CASES = {"w8a8": tuple(PRODUCTS), "affine_weights": (*MOST, "conv_grouped", "conv_transposed"),
         **{name: MOST for name in SPECS if name not in ("w8a8", "affine_weights")},
         **dict.fromkeys(GROUPS, ONE_SUM)}  # fmt: skip
SERVED = ("w8a8", "dynamic_affine", "affine_groups")


def inputs_of(name, dtype: Any = np.float32):
    """Weights, and inputs off centre, so that no zero point is zero."""
    rng = np.random.default_rng(0)
    x = {case: rng.normal(0.5, 1, PRODUCTS[case].x).astype(dtype) for case in CASES[name]}
    return {case: rng.normal(0.1, 1, PRODUCTS[case].w).astype(dtype) for case in CASES[name]}, x


def everything(w, x):
    return {case: PRODUCTS[case].jax(x[case], w[case]) for case in x}


def quantized(name):
    """All products of the named specs, quantized so."""
    weights, activations = {**SPECS, **GROUPS}[name]
    return qat.quantize(everything, QuantRecipe((QuantRule(weights=weights, activations=activations),)))


@dataclass(frozen=True)
class Ran:
    """What the library made of all products: results, and gradients of their pulled sum."""

    simulated: dict[str, Any]
    x_gradients: dict[str, Any]
    w_gradients: dict[str, Any]
    pull: dict[str, Any]
    served: dict[str, Any]


@cache
def ran(name, dtype: Any = np.float32):
    """All products of the named specs simulated, differentiated and, some, served."""
    q, (w, x) = quantized(name), inputs_of(name, dtype)
    with jax.disable_jit():  # op by op: the specs' float products are the same and compile once
        state = q.calibrate(w, [x])
    rng = np.random.default_rng(1)
    pull = {
        case: rng.standard_normal(y.shape).astype(np.float32) for case, y in jax.eval_shape(everything, w, x).items()
    }

    def pulled(w, x):
        out = q.simulate(w, state, x)
        return sum(jnp.vdot(out[case].astype(jnp.float32), pull[case]) for case in out), out

    (_, simulated), (to_w, to_x) = jax.jit(jax.value_and_grad(pulled, argnums=(0, 1), has_aux=True))(w, x)
    served = q.serve(q.convert(w, state, x), x) if name in SERVED else {}
    return Ran(simulated, to_x, to_w, pull, served)


def rounded(name, case, dtype: Any = np.float32):
    """Input and weight on the grids of the named specs, each with where it lies inside."""
    product, (weights, activations) = PRODUCTS[case], {**SPECS, **GROUPS}[name]
    w, x = (tree[case] for tree in inputs_of(name, dtype))
    token = activations is not None and activations.per == "token"
    x_hat = fakequant.fake_quant(x, activations, product.x_axes if token else tuple(range(x.ndim)))
    if weights is not None and weights.per == "group":
        return x_hat, fakequant.grouped(w, weights, product.w_axes[0])
    whole = weights is None or weights.per == "tensor"
    return x_hat, fakequant.fake_quant(w, weights, tuple(range(w.ndim)) if whole else product.w_axes)
