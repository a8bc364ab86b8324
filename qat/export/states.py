"""Calibrations on disk: ranges, learned values and the label of the recipe, in a safetensors file."""

import os
from pathlib import Path

from qat.core.state import QuantState, as_tree, from_tree
from qat.export.trees import STATE, load_tree, refusing_damage, save_tree
from qat.fileio import folder

REMEDY = "Save the state again."


def save_state(path: str | Path, state: QuantState | None = None) -> None:
    """Write a calibration; the file appears whole or not at all.

    Observers' states are left out: a loaded state simulates, trains and converts as before, but cannot go on observing.
    Raises `ValueError` for anything but a path and a state.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(state, QuantState):
        raise ValueError(
            f"`save_state` takes a path and what `calibrate` returns, got {type(path).__name__} and "
            f"{type(state).__name__}. Call `qat.save_state('state.safetensors', q.calibrate(params, batches))`."
        )
    save_tree(folder(path), as_tree(state), STATE)


def load_state(path: str | Path) -> QuantState:
    """Read a calibration with the same values, shapes, dtypes and recipe label.

    Raises `ValueError` for a file that is damaged or of another kind.
    """
    file = folder(path)
    if not file.is_file():
        raise ValueError(f"there is no calibration at {str(file)!r}. `qat.save_state(path, state)` writes one.")
    tree = load_tree(file, STATE, REMEDY)
    with refusing_damage(file, REMEDY):
        return from_tree(tree)
