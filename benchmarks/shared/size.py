"""Sizes of files."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save as serialize

import qat


def float_bytes(variables: Any) -> int:
    """Bytes of a safetensors file of a float model."""
    return len(serialize({str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(variables))}))


def file_bytes(int8: Any) -> int:
    """Bytes of the file that `qat.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        qat.save(path, int8)
        return path.stat().st_size
