"""The interface of an observer: three pure functions over a state that estimate a tensor's range."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

from qat.registry import Registry

State = Any
Values = Float[Array, "channels values"]
Bound = Float[Array, "channels"]


@dataclass(frozen=True)
class Observer:
    """`init(channels)` makes a state, `update(state, values)` adds a batch of (channels, values) in float32, in bounded
    memory, and `range(state, steps, symmetric)` is the clip range (low, high) of each channel for a grid of `steps`
    steps, `symmetric` about zero or not. An odd number of symmetric steps has no level at zero."""

    init: Callable[[int], State]
    update: Callable[[State, Values], State]
    range: Callable[[State, Float[Array, ""], bool], tuple[Bound, Bound]]


observers: Registry[Observer] = Registry("observer")
"""Observers by name."""
register = observers.register
"""Make a function that returns an `Observer` known under its name; use as a decorator."""
