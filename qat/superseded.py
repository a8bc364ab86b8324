"""Results that others take the place of: kept in `superseded/` of their run folder."""

import shutil
from collections.abc import Collection
from pathlib import Path

from qat.files import SUPERSEDED
from qat.storage import is_local


def supersede(root: Path, place: Path, name: str, first: str, stays: Collection[str] = ()) -> None:
    """Move what a job's folder holds, but for `stays`, into a new folder of that `name` in `superseded/`.

    File by file, as they may be on another file system; `first` is the file that says that the job is done.
    """
    old = root / SUPERSEDED / name
    number = 1
    while (target := old if number == 1 else old.with_name(f"{old.name}-{number}")).exists():
        number += 1
    target.mkdir(parents=True)
    children = sorted(place.iterdir(), key=lambda path: path.name != first)
    for child in (child for child in children if child.name not in stays):
        if is_local(child):
            shutil.move(child, target / child.name)
        else:
            child.rename(target / child.name)
