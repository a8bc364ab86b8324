"""Whose code runs: a run folder names files of its study, which may come from anybody."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

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
    return place.is_relative_to(project()) and not place.is_relative_to(root.resolve())


def project() -> Path:
    """The folder of the git repository that this process works in, or just the folder that it works in."""
    here = Path.cwd().resolve()
    return next((folder for folder in (here, *here.parents) if (folder / MARK).exists()), here)
