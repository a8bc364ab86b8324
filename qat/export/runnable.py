"""An exported program as a function, which refuses inputs that it was not exported for."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from qat.export.description import Description
from qat.export.exporter import ArraySpec


@dataclass(frozen=True)
class Runnable:
    """An exported program, called with the model's inputs; its description tells their names, shapes and dtypes."""

    description: Description
    program: Callable[..., Any]

    def __call__(self, *inputs: Any) -> Any:
        """The outputs. Raises `ValueError` for inputs of another number, shape or dtype."""
        check_inputs(self.description, inputs)
        return self.program(*inputs)


def check_inputs(description: Description, inputs: tuple[Any, ...]) -> None:
    """Raise `ValueError` for inputs of another number, shape or dtype than described; an open length is the same
    wherever its name stands."""
    leaves, lengths = jax.tree.leaves(inputs), {}
    if len(leaves) != len(description.inputs):
        names = ", ".join(description.inputs)
        raise ValueError(f"the exported model takes {len(description.inputs)} arrays ({names}), got {len(leaves)}.")
    for (name, spec), leaf in zip(description.inputs.items(), leaves, strict=True):
        shape, dtype = np.shape(leaf), str(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype)
        if dtype != spec.dtype or not _fits(spec, shape, lengths):
            raise ValueError(
                f"input `{name}` must be {spec.dtype}{_shown(spec.shape, lengths)}, got {dtype}{list(shape)}. Give "
                "arrays of the shapes and dtypes that the model was exported with."
            )
    for limit in description.limits:
        name, most = _limit(limit)
        if lengths.get(name, 0) > most:
            raise ValueError(f"the exported model takes inputs with {limit}, got {lengths[name]}.")


def _fits(spec: ArraySpec, shape: tuple[int, ...], lengths: dict[str, int]) -> bool:
    """Whether a shape is as specified; learns the lengths of open axes."""
    if len(shape) != len(spec.shape):
        return False
    return all(
        have == (want if isinstance(want, int) else lengths.setdefault(want, have))
        for want, have in zip(spec.shape, shape, strict=True)
    )


def _shown(shape: tuple[int | str, ...], lengths: dict[str, int]) -> str:
    return f"[{', '.join(str(lengths.get(n, n) if isinstance(n, str) else n) for n in shape)}]"


def _limit(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\w+) <= (\d+)", text)
    if found is None:
        raise ValueError(f"the description has a limit that cannot be read: {text!r}. Export the model again.")
    return found[1], int(found[2])
