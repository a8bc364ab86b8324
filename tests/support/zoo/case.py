"""What one model of the zoo consists of."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

Inputs = Callable[[int, int | None, int], tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model as a function of `(params, *inputs)`, with what is known about it from reading its code.

    `inputs(batch, length, seed)` makes realistic inputs; a `length` of None is the model's usual one, and models
    whose `length_varies` is False ignore it. `contractions` counts the `dot_general`, `conv_general_dilated` and
    parameter lookups (a `gather` from something made of parameters alone, at indices that depend on an input).
    `constant_lookups` counts the gathers from a parameter at indices no input decides, such as position tables;
    they are not among `contractions`. `dtype` is the type the model computes in; parameters are float32.
    """

    name: str
    fn: Callable[..., Any]
    params: Any
    inputs: Inputs
    contractions: int
    constant_lookups: int = 0
    length_varies: bool = False
    dtype: Any = jnp.float32
    notes: str = ""
