"""Files of a run folder, read and parsed once for as long as they stay as they are."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qat.storage import Stamp, stamp

REMEMBERED = 32_768  # files; a study of 2,000 trials has some 10,000
TAIL_BYTES = 32_768


def read[T](load: Callable[[Path], T], path: Path) -> T | None:
    """`load(path)`; None where there is no file, or none that this user may read."""
    seen = stamp(path)
    return None if seen is None else _read(load, path, seen)


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def last_lines(path: Path, most: int = 40) -> str:
    """The end of a log, of whatever size the file is; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-most:])


@functools.lru_cache(maxsize=REMEMBERED)
def _read(load: Callable[[Path], Any], path: Path, seen: Stamp) -> Any:
    try:
        return load(path)
    except OSError:
        return None
