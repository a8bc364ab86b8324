"""Parameter values like those of a trained network, made without compiling an initializer."""

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx


def fill(tree: Any, seed: int = 0) -> Any:
    """The tree of shapes with values: kernels of variance 1 / fan-in, biases not zero, variances positive."""
    rng = np.random.default_rng(seed)
    return jax.tree.map_with_path(lambda path, leaf: _value(rng, _name(path), leaf), tree)


def linen_variables(model: nn.Module, *inputs: Any, **kwargs: Any) -> Any:
    """All variable collections of a Linen module called as `model(*inputs, **kwargs)`."""
    return fill(jax.eval_shape(lambda key: model.init(key, *inputs, **kwargs), jax.random.key(0)))


def nnx_split(build: Callable[[nnx.Rngs], nnx.Module]) -> tuple[Any, Any]:
    """The graph definition and the filled state of an NNX module in evaluation mode."""
    model = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    model.eval()
    graphdef, state = nnx.split(model)
    return graphdef, fill(state)


def _name(path: tuple[Any, ...]) -> str:
    words = [word for word in re.findall(r"\w+", jax.tree_util.keystr(path)) if word != "value"]
    return words[-1] if words else ""


def _value(rng: np.random.Generator, name: str, leaf: Any) -> Any:
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), leaf.shape) if leaf.shape else jax.random.key(0)
    if not jax.numpy.issubdtype(leaf.dtype, np.floating):
        return jax.numpy.zeros(leaf.shape, leaf.dtype)
    noise = rng.standard_normal(leaf.shape)
    if name == "var":
        noise = np.exp(0.3 * noise)
    elif name == "scale":
        noise = 1 + 0.1 * noise
    elif name == "embedding":
        noise = noise / np.sqrt(leaf.shape[-1])
    elif name == "kernel":
        noise = noise / np.sqrt(np.prod(leaf.shape[:-1]))
    else:
        noise = 0.1 * noise
    return jax.numpy.asarray(noise, leaf.dtype)
