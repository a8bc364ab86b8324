"""Python files that define experiments: run once, with what went wrong said in one clear message."""

import runpy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qat.config import explain
from qat.mistake import place, told


def run_file(path: Path) -> dict[str, Any]:
    """The names that a Python file defines. Raises `ValueError` with every mistake in its configs, one a line, or with
    why it could not be run."""
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a file. Name a Python file, such as experiments/quickstart.py.")
    try:
        return runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        raise ValueError(unreadable(path, error)) from error


def unreadable(path: Path, error: BaseException) -> str:
    """What to say of a file whose code raised `error`: where, in this file or in one that it uses, and what."""
    if isinstance(error, ValidationError):
        return f"{str(path)!r}:\n{explain(error)}"
    found = place(error)
    first, *more = told(error).splitlines()
    if isinstance(error, SystemExit):
        first += '. Put what is for the command line alone under `if __name__ == "__main__":`'
    if found is not None and found.file.resolve() == path.resolve():
        where = f", line {found.line}"
        first += f" (`{found.text}`)" if found.text else ""
    else:
        where = ""
        first += f" ({found})" if found else ""
    return "\n".join([f"{str(path)!r}{where} could not be run: {first}", *more])
