"""Compiled programs on disk: one cache for all runners, its user's alone, of bounded size, without damaged entries."""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from qat.fileio import write_atomically

LIMIT = 2**30  # bytes, beyond which what was used least recently is removed
WORTH = 0.1  # seconds of compiling from which a program is kept; jax's own 1 s leaves out small ones
ENTRY, USED, LOCK, DIGESTS = "-cache", "-atime", ".lockfile", "digests.json"  # the first three are jax's names
CHOSEN = "JAX_COMPILATION_CACHE_DIR"  # set where the user has a cache of their own
ZSTD = b"\x28\xb5\x2f\xfd"  # how what is packed by Zstandard begins; jax packs by zlib where there is none
PATIENCE = 5.0  # seconds to wait for another process that has the lock


def variables(threads: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that let a process, on so many `threads`, share programs with others of this user, but for those that
    are set; to be set before jax is imported. None where there is no place for a cache that is the user's alone.

    In the folder that `XDG_CACHE_HOME` names, else `~/.cache`, apart for each kind of processor, as several may share a
    home, and number of threads, which a program may be compiled for. jax itself knows programs of its other versions.
    """
    wanted = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": str(WORTH)}
    if CHOSEN not in environment:
        place = _home(environment) / f"{_processor()}-{threads}"
        if not _make_private(place):
            return {}
        wanted |= {CHOSEN: str(place), "JAX_COMPILATION_CACHE_MAX_SIZE": str(LIMIT)}
    return {name: value for name, value in wanted.items() if name not in environment}


@contextlib.contextmanager
def kept(threads: int) -> Iterator[None]:
    """Keep what this process compiles meanwhile in that cache, unless its user chose another or none."""
    if "jax" not in sys.modules:  # nothing will be compiled
        yield
        return
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    wanted = {name.lower(): value for name, value in variables(threads).items()}
    if jax.config.jax_compilation_cache_dir is not None or CHOSEN.lower() not in wanted:
        yield
        return
    # Variables are text; jax's settings are typed.
    types = {"jax_compilation_cache_max_size": int, "jax_persistent_cache_min_compile_time_secs": float}
    before = {name: getattr(jax.config, name) for name in wanted}
    try:
        for name, value in wanted.items():
            jax.config.update(name, types.get(name, str)(value))
        reset_cache()  # which was opened, or not, at the first compilation
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


def tend(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Remove the entries of all such caches that are damaged, and beyond `LIMIT` in all those that were used least
    recently; the removed ones. What a disk refuses, or another process is at, is left for the next time."""
    if CHOSEN in environment:
        return []
    removed = []
    home = _home(environment)
    folders = [path for path in home.iterdir() if path.is_dir()] if home.is_dir() else []
    for folder in folders:
        with contextlib.suppress(OSError), _locked(folder):
            removed += _mend(folder)
    return removed + _shrink(folders)


def _mend(folder: Path) -> list[Path]:
    """Remove what is not what it was, or was cut off. Each entry's digest is taken when it is first seen whole."""
    known, found, removed = _digests(folder), {}, []
    # Invariant: `found` has the digest of every entry looked at so far that stays, and no removed one.
    for path in folder.glob(f"*{ENTRY}"):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if known.get(path.name, digest) == digest and (path.name in known or _is_whole(content)):
            found[path.name] = digest
        else:
            _remove(path)
            removed.append(path)
    if found != known:
        write_atomically(folder / DIGESTS, json.dumps(found))
    return removed


def _shrink(folders: Sequence[Path]) -> list[Path]:
    with contextlib.suppress(OSError):
        entries = [(_last_use(path), path.stat().st_size, path) for one in folders for path in one.glob(f"*{ENTRY}")]
        total, removed = sum(size for _, size, _ in entries), []
        # Invariant: `total` is what is left on disk. Least recently used first, over all folders, as they share one
        # limit.
        for _, size, path in sorted(entries):
            if total <= LIMIT:
                break
            total -= size
            _remove(path)
            removed.append(path)
        return removed
    return []


def _digests(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_whole(content: bytes) -> bool:
    """Whether an entry can be taken apart as jax does it."""
    try:
        if content.startswith(ZSTD):
            names = ("compression.zstd", "zstandard")
            importlib.import_module(next(filter(_is_there, names))).decompress(content)
        else:
            zlib.decompress(content)
    except Exception:
        return False
    return True


def _is_there(name: str) -> bool:
    parents = name.rpartition(".")[0]
    return (not parents or _is_there(parents)) and importlib.util.find_spec(name) is not None


def _last_use(path: Path) -> float:
    used = path.with_name(path.name.removesuffix(ENTRY) + USED)
    return (used if used.exists() else path).stat().st_mtime


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name.removesuffix(ENTRY) + USED)):
        one.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep jax from writing there; `TimeoutError`, which is an `OSError`, where another process has it for long."""
    from filelock import FileLock

    with FileLock(folder / LOCK, timeout=PATIENCE):
        yield


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qat" / "compiled"


def _make_private(place: Path) -> bool:
    """See to it that nobody else can write programs there, which would run here; whether that is so."""
    try:
        for folder in (place.parent, place):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A cached program is machine code that this process will run: a folder of somebody else's is no place for
            # it.
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                return False
            folder.chmod(0o700)
    except OSError:
        return False
    return os.access(place, os.W_OK)


@cache
def _processor() -> str:
    """A name for what this machine's processor is and can do."""
    names = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        facts = "\n".join(line for line in lines if line.partition(":")[0].strip() in names)
    except OSError:
        facts = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
