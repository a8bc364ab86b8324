"""Python files that define experiments: run once, with what went wrong said in one clear message."""

import os
import runpy
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qat.fileio import describe_error, is_local, place
from qat.lab.experiment.code import load_anew, snapshot
from qat.lab.experiment.config import explain
from qat.lab.experiment.members import is_known

_ADDED: list[str] = []  # at most one folder, of the study in hand


def run_file(path: Path) -> dict[str, Any]:
    """The names that a Python file defines. Raises `ValueError` with every mistake in its configs, one a line, or with
    why it could not be run.

    It can import what lies beside it, as `python FILE` can, also later on; modules of the user that have changed since
    they were loaded are loaded anew.
    """
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a file. Name a Python file, such as experiments/quickstart.py.")
    load_anew()
    _make_importable(path.absolute().parent)
    try:
        found = runpy.run_path(str(path.absolute()))
        snapshot(path)
        return found
    except (Exception, SystemExit) as error:
        raise ValueError(unreadable(path, error)) from error


def unreadable(path: Path, error: BaseException) -> str:
    """The message for a file whose code raised `error`: where, in this file or in one that it uses, and what."""
    if isinstance(error, ValidationError):
        return f"{str(path)!r}:\n{explain(error)}"
    found = place(error)
    first, *more = describe_error(error).splitlines()
    if isinstance(error, SystemExit):
        first += '. Put what is for the command line alone under `if __name__ == "__main__":`'
    if found is not None and found.file.resolve() == path.resolve():
        line = f", line {found.line}"
        first += f" (`{found.text}`)" if found.text else ""
    else:
        line = ""
        first += f" ({found})" if found else ""
    return "\n".join([f"{str(path)!r}{line} could not be run: {first}", *more])


def register(values: Mapping[str, Any], files: Iterable[str], also: bool = True) -> None:
    """Run the files of a study where they register something that its config, plain values, names and this process
    does not know, or where not `also` is known."""
    if not (also and is_known(values)):
        for file in files:
            run_file(Path(file))


def _make_importable(folder: Path) -> None:
    """Put the folder first among the places of modules, in place of the one of another study, and let go of modules of
    that one where this folder has its own of the same name."""
    added = str(folder)
    if added not in sys.path:
        sys.path.insert(0, added)
        _ADDED.append(added)
    for other in [one for one in _ADDED if one != added]:
        _ADDED.remove(other)
        sys.path.remove(other)
        for name, module in list(sys.modules.items()):
            top, file = name.partition(".")[0], getattr(module, "__file__", None) or ""
            if file.startswith(f"{other}{os.sep}") and ((folder / top).is_dir() or (folder / f"{top}.py").is_file()):
                del sys.modules[name]


MARK = ".git"


def vetted(files: Iterable[str], root: Path, trust: bool) -> Iterator[str]:
    """The files that the run folder `root` names, each said on stderr as it is asked for in order to be run.

    Raises `ValueError` at one that is not the user's own, which is one in the current project and not in the run folder
    itself, unless there is `trust`.
    """
    for file in map(str, files):
        if not trust and not is_own(Path(file), root):
            raise ValueError(
                f"{str(root)!r} names {file!r}, whose code would run now, and which is outside of the project in "
                f"{str(project())!r} or part of that run folder. Read it; if you trust it give `--trust` "
                "(in Python `trust=True`), or run this in its own project."
            )
        print(f"Runs {file}, which {root} names.", file=sys.stderr)  # noqa: T201
        yield file


def is_own(file: Path, root: Path) -> bool:
    """Whether a file is in the current project, and not in the run folder `root`."""
    place = file.resolve()
    inside = is_local(root) and place.is_relative_to(root.resolve())
    return place.is_relative_to(project()) and not inside


def project() -> Path:
    """The folder of the git repository that this process works in, or just the folder that it works in."""
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / MARK).exists()), here)
