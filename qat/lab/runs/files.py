"""A result's JSON file that is written last in its folder and seals it: digests of the other files, and its own.

A file that was damaged or edited since can be told by it. What seals and has no digests, as earlier versions wrote it,
is taken for whole.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from qat.fileio import Stamp, is_local, stamp, write_atomically
from qat.lab.jobs.log import FAILURE_FILE, LOG_FILE

STAGES = "stages"
SUPERSEDED = "superseded"  # results whose settings, code or data have changed since, and damaged ones

CONFIG_FILE, MANIFEST_FILE, METRICS_FILE = "config.json", "manifest.json", "metrics.jsonl"
MODEL_FILE, EXAMPLES_FILE, LAYERS_FILE = "model.safetensors", "examples.npz", "layers.json"
ARTIFACT_FILE, DONE_FILE, RAISED_FILE, PTQ_FILE = "artifact.safetensors", "done.json", "raised.json", "ptq.json"
SIGNATURE_FILE, ALLOCATION_FILE, AUDIT_FILE = "signature.json", "allocation.json", "audit.json"
CHECKPOINTS = "checkpoints"
KEY_FILE, PRUNED_FILE, PARITY_FILE = "key.json", "pruned.json", "parity.json"
REDO_TRIAL = "Run the sweep again: it redoes this trial alone."


FILES, DIGEST = "files", "digest"
GO_ON = {LOG_FILE, FAILURE_FILE, AUDIT_FILE, PARITY_FILE}  # what is written beside a result after it, or by others
DIGITS = 16
REMEMBERED = 65_536  # files

type Digests = Mapping[str, tuple[int, str]]
"""Of files by name: bytes, and digest of the content."""


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` with digests of all files beside `path`, and of itself."""
    found = {**json.loads(json.dumps(content)), FILES: _digests(path)}
    sealed = {**found, DIGEST: _own(found)}
    write_atomically(path, json.dumps(sealed, indent=2, ensure_ascii=False) + "\n")


def digests_in(found: Mapping[str, Any]) -> Digests:
    """The digests in the content of a sealing file."""
    return {name: (size, digest) for name, (size, digest) in found.get(FILES, {}).items()}


def is_own(found: Mapping[str, Any]) -> bool:
    """Whether what was read from a sealing file is what was written to it."""
    return not {FILES, DIGEST} & set(found) or found.get(DIGEST) == _own(found)


def faults(path: Path, *, by_size: bool = False) -> list[str]:
    """A line for the sealing file at `path` and each file that it seals that is not as it was written.

    Contents are read once for as long as a file's time and size stay the same; with `by_size` never.
    """
    try:
        digests = _read(path)
    except (OSError, ValueError) as error:
        return [f"{str(path)!r} is damaged ({error})."]
    checked = (fault(path.with_name(name), digests, by_size=by_size) for name in digests)
    return [found for found in checked if found is not None]


def fault(path: Path, digests: Digests, *, by_size: bool = False) -> str | None:
    """Describe a file's fault in a sentence that names it; None where it is as written or has no digest."""
    if path.name not in digests:
        return None
    size, digest = digests[path.name]
    try:
        seen = stamp(path)
        if seen is None:
            return f"{str(path)!r} is missing."
        if seen[1] != size:
            return f"{str(path)!r} is damaged ({size} bytes were written, {seen[1]} are there)."
        same = by_size or _digest(path, seen) == digest
    except OSError as error:
        return f"{str(path)!r} cannot be read ({error.strerror or error})."
    return None if same else f"{str(path)!r} is damaged (its content is not what was written)."


def sealed_by(path: Path) -> Digests:
    """The digests in a sealing file; none where it is not there, cannot be read, or is of an earlier version."""
    try:
        return _read(path)
    except (OSError, ValueError):
        return {}


def is_whole(path: Path) -> bool:
    """Whether a folder's sealing file is there, with all that it seals as it was written.

    Of an address, where every look takes a round trip, it alone is read.
    """
    if stamp(path) is None:
        return False
    if is_local(path):
        return not faults(path)
    try:
        _read(path)
    except ValueError:
        return False
    return True


def _read(path: Path) -> Digests:
    """Raises `ValueError` for what is no sealing file, or was changed since."""
    seen = stamp(path)
    if seen is None:
        raise FileNotFoundError("it is missing")
    return _parsed(path, seen)


@functools.lru_cache(maxsize=REMEMBERED)
def _parsed(path: Path, seen: Stamp) -> Digests:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    if not is_own(found):
        raise ValueError("its content is not what was written")
    return digests_in(found)


def _own(found: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in found.items() if name != DIGEST}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _digests(path: Path) -> dict[str, tuple[int, str]]:
    beside = sorted(one for one in path.parent.iterdir() if one.name not in GO_ON and not one.name.startswith("."))
    found = ((one.name, stamp(one)) for one in beside if one != path and one.is_file())
    return {name: (seen[1], _digest(path.with_name(name), seen)) for name, seen in found if seen is not None}


@functools.lru_cache(maxsize=REMEMBERED)
def _digest(path: Path, seen: Stamp) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]  # pyright: ignore[reportArgumentType]


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
        shutil.move(child, target / child.name)
