"""The arguments of a model's builder: its own, and the sizes that a data set tells."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from qat.models import models
from qat.registry import parse_call

KEYS = "rngs"
"""The argument that the builder of an NNX module takes its keys by."""


def accepted(model: str, offered: Mapping[str, Any]) -> dict[str, Any]:
    """The offered sizes that a builder gets: those that it has no default for, and `classes` in any case.

    A builder's other defaults are left alone, so that a model stays the same on another data set. Raises `ValueError`
    for one that has neither a default, nor a value in the model's text, nor is offered.
    """
    taken, missing = _arguments(model, offered)
    if missing:
        shown = ", ".join(f"{name}={value!r}" for name, value in offered.items()) or "nothing"
        raise ValueError(
            f"model {model!r} needs {_quoted(missing)}, and its data set tells {shown}. Write it in the model's text, "
            f"such as {parse_call(model)[0]}({missing[0]}=...), or have the data set tell it: `Dataset(sizes={{...}})`."
        )
    return taken


def check_builder(model: str) -> None:
    """Raise `ValueError` for an unknown model, or arguments that its builder does not take; nothing is allocated.

    A builder that wants more of its data set than a number of classes is not called.
    """
    taken, missing = _arguments(model, {"classes": 2})
    if not missing:
        jax.eval_shape(lambda: _called(model, taken) and None)


def takes_keys(model: str) -> bool:
    """Whether a builder makes its weights itself, from keys that it is given, as those of NNX modules do."""
    return KEYS in models.signature(parse_call(model)[0]).parameters


def _arguments(model: str, offered: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The offered values that a builder gets, and the names of those that it still lacks."""
    name, args, kwargs = parse_call(model)
    signature = models.signature(name)
    parameters = signature.parameters
    try:
        signature.bind_partial(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"model {model!r}: {error}. It takes {name}{signature}.") from None
    written = {*list(parameters)[: len(args)], *kwargs, KEYS}
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    left = {name: p for name, p in parameters.items() if name not in written and p.kind in plain}
    needed = [name for name, p in left.items() if p.default is inspect.Parameter.empty]
    passes_on = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()) and "classes" not in written
    wanted = {*needed, *(["classes"] if "classes" in left or passes_on else [])}
    return {name: offered[name] for name in offered if name in wanted}, [n for n in needed if n not in offered]


def _called(model: str, taken: Mapping[str, Any]) -> Any:
    """What a builder returns, given keys too where it takes them."""
    keys = {KEYS: nnx.Rngs(0)} if takes_keys(model) else {}
    return models.build(model, **taken, **keys)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
