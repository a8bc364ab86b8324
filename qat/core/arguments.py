"""Arguments of a quantized function: arrays, which jax traces, and constants, which are part of the function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

Items = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Keyworded:
    """A function with keyword arguments: `static` constants are compiled in, arrays follow the inputs as a dict."""

    fn: Callable[..., Any]
    static: Items

    def __call__(self, params: Any, *inputs: Any) -> Any:
        """Call the function; the last of `inputs` is the dict of its arrays by keyword."""
        *inputs_alone, arrays = inputs
        return self.fn(params, *inputs_alone, **arrays, **dict(self.static))


def split_keywords(keywords: Mapping[str, Any]) -> tuple[Items, dict[str, Any]]:
    """Split keyword arguments into constants (flags, numbers, text), sorted by name, and trees of arrays.

    Raises `ValueError` for a value that is neither a tree of arrays nor hashable.
    """
    arrays = {name: value for name, value in keywords.items() if _is_of_arrays(value)}
    static = tuple(sorted((name, value) for name, value in keywords.items() if name not in arrays))
    for name, value in static:
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"keyword `{name}` must be arrays, or a hashable constant such as a flag, a number, text or a tuple; "
                f"got a {type(value).__name__}. Give a tuple for a list, and arrays apart from constants."
            ) from None
    return static, arrays


def _is_of_arrays(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(hasattr(leaf, "dtype") for leaf in leaves)


def refuse_constants(inputs: Any) -> None:
    """Raise `ValueError` for text among the inputs: jax traces arrays only."""
    for leaf in jax.tree.leaves(inputs):
        if isinstance(leaf, str | bytes):
            raise ValueError(
                f"an input must be an array or a tree of arrays, got the text {leaf!r}. Pass constants of the "
                "function by keyword, as in `q.simulate(params, state, x, mode='mean')`, and keep text out of batches."
            )


def described(inputs: tuple[Any, ...]) -> str:
    """The dtypes and shapes of inputs as text, in the structure of their trees."""
    return ", ".join(str(jax.tree.map(_form, x)) for x in inputs).replace("'", "") or "none"


def _form(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
