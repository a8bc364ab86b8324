"""Python files that define experiments: run once, with what went wrong said in one clear message."""

import runpy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qat.config import explain


def run_file(path: Path) -> dict[str, Any]:
    """The names that a Python file defines. Raises `ValueError` with every mistake in its configs, one a line, or with
    why it could not be run."""
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a file. Name a Python file, such as experiments/quickstart.py.")
    try:
        return runpy.run_path(str(path))
    except Exception as error:
        raise ValueError(unreadable(path, error)) from error


def unreadable(path: Path, error: Exception) -> str:
    """What to say of a file whose code raised `error`."""
    if isinstance(error, ValidationError):
        return f"{str(path)!r}:\n{explain(error)}"
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
    return f"{str(path)!r}{line} could not be run: {type(error).__name__}: {error}"
