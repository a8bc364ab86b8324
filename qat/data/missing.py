"""Data that are somewhere else: not a mistake of the settings; and what a folder holds instead of them."""

from pathlib import Path

NAMED = 5  # files that `held` names


class MissingDataError(ValueError):
    """A data set that reads a user's own folder was told of none."""


def held(folder: Path) -> str:
    """The first names in a folder, or that there is none, for an error."""
    return ", ".join(sorted(path.name for path in folder.iterdir())[:NAMED]) if folder.is_dir() else "no such folder"
