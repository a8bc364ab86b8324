"""A process that lives longer than an edit: the user's modules that have changed on disk are loaded anew."""

import importlib
import os
import sys
from pathlib import Path

from qat.lab.experiment.code.closure import code_of
from qat.lab.experiment.code.digest import PACKAGE, SEEN, content, file_digest
from qat.lab.experiment.code.imports import imports_of
from qat.registry import Registry


def snapshot(path: Path) -> None:
    """Remember a file of the user, and all of the user's that it imports, as they are now."""
    open_files, done = [path.absolute()], set[Path]()
    while open_files:
        file = open_files.pop()
        if file not in done and file.is_file():
            done.add(file)
            content(file)
            if file.suffix == ".py":
                open_files += imports_of(file).modules


def load_anew() -> bool:
    """Forget the user's modules that have changed since this process loaded them, those that import them, and what
    they registered; whether there were any. The next import reads them as they are now.

    qat's own modules stay as they were loaded, and so do their digests.
    """
    importlib.invalidate_caches()
    theirs = [path for path in SEEN if not path.is_relative_to(PACKAGE)]
    stale = {path for path in theirs if not path.is_file() or path.read_bytes() != SEEN[path]}
    if not stale:
        return False
    before = 0
    while len(stale) > before:  # ends: each round finds more of a finite set
        before = len(stale)
        stale |= {path for path in theirs if imports_of(path).modules & stale or imports_of(path).data & stale}
    paths = {str(path) for path in stale}
    for name, module in list(sys.modules.items()):
        if name != "__main__" and _file(module) in paths:
            del sys.modules[name]
    for registry in Registry.every:
        registry.forget(stale)
    for path in theirs:
        del SEEN[path]
    for cached in (code_of, imports_of, file_digest):
        cached.cache_clear()
    return True


def _file(module: object) -> str | None:
    file = getattr(module, "__file__", None)
    # Thousands of modules are asked, nearly all of which have an absolute path: a `Path` of each would take a second.
    return file if not isinstance(file, str) or file.startswith(os.sep) else str(Path(file).absolute())
