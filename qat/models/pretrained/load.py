"""A checkpoint's tensors in the place of a model's random ones."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array
from safetensors import SafetensorError, safe_open

from qat.models.pretrained.dimensions import of_config, of_shapes
from qat.models.pretrained.files import Files, files
from qat.models.pretrained.match import Match, match

PREFIX = "hf:"


def check_init(init: str, variables: Any) -> None:
    """Raise `ValueError` where `initial` would; `variables` may be abstract. Of the tensors it reads shapes alone."""
    _plan(init, variables)


def initial(init: str, variables: Any) -> Any:
    """A model's variables with the parameters of the checkpoint `init`, which is `hf:PATH_OR_ID`.

    The classifier is not in it and stays as it is. A line on stderr names it, and the tensors that have no place in
    the model. Raises `ValueError` for what cannot be read, another architecture or size, and for tensors that are
    missing, unexpected, misshapen or not finite, all of them at once.
    """
    found, plan = _plan(init, variables)
    params = _flat(variables)
    with safe_open(found.weights, framework="flax") as tensors:
        read = {path: _parameter(tensors.get_tensor(name), params[path], path) for path, name in plan.names.items()}
    bad = [plan.names[path] for path, x in read.items() if not np.isfinite(x).all()]
    if bad:
        raise ValueError(f"{str(found.weights)!r} has NaN or infinity in {', '.join(bad)}. Fetch the checkpoint again.")
    left_out = f"; left out: {', '.join(plan.left_out)}" if plan.left_out else ""
    sys.stderr.write(f"{init}: {len(read)} tensors read{left_out}; random: {', '.join(plan.random)}\n")
    return {**variables, "params": unflatten_dict({**params, **jax.tree.map(jnp.asarray, read)}, sep="/")}


def _flat(variables: Any) -> dict[str, Any]:
    """The parameters by path."""
    return dict(flatten_dict(variables["params"], sep="/"))


def _plan(init: str, variables: Any) -> tuple[Files, Match]:
    if not init.startswith(PREFIX):
        raise ValueError(f"`init` must be 'hf:PATH_OR_ID', a folder or an id on Hugging Face's hub, got {init!r}.")
    shapes = {path: tuple(x.shape) for path, x in _flat(variables).items()}
    model = of_shapes(shapes)
    found = files(init)
    theirs, tensors = of_config(found.config), _tensors(found.weights)
    if theirs != model:
        raise ValueError(
            f"`init` {init!r} has {theirs}, but the model has {model}. The model that fits is {theirs.model}."
        )
    try:
        return found, match(shapes, tensors)
    except ValueError as error:
        raise ValueError(f"the tensors of {str(found.weights)!r} are not those of the model:\n{error}") from None


def _tensors(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every tensor, by name."""
    try:
        with safe_open(path, framework="flax") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.offset_keys()}
            return {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}). Fetch the checkpoint again.") from None


def _parameter(tensor: Any, like: Array, path: str) -> np.ndarray:
    """A tensor as the parameter that it is."""
    values = np.asarray(tensor)
    return (values.T if path.endswith("/kernel") else values).reshape(like.shape).astype(like.dtype)
