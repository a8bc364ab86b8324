"""Files written whole or not at all, and what to say when the disk refuses."""

import contextlib
import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

FULL = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
UMASK = os.umask(0o077)
os.umask(UMASK)

type Stamp = tuple[float, int] | tuple[int, int, int]


def folder(path: str | Path) -> Path:
    """A local path, or, of an address such as `gs://bucket/runs` or `s3://...`, an `etils.epath` path: the same API.

    Raises `ValueError` for an address of a kind that is not known, or whose package is not installed.
    """
    if "://" not in str(path):
        return Path(path)
    import fsspec
    from etils import epath

    try:
        fsspec.get_filesystem_class(str(path).split("://")[0])
        return epath.Path(path)  # pyright: ignore[reportReturnType]
    except (ImportError, KeyError, ValueError) as error:
        why = f": {error}" if isinstance(error, ImportError) else ""
        raise ValueError(
            f"a run folder must be a local path, or an address such as gs://bucket/runs or s3://bucket/runs whose "
            f"package is installed, got {str(path)!r}{why}."
        ) from None


def is_local(path: Path) -> bool:
    """Whether a path is one of this machine's file systems."""
    return "://" not in str(path)


def local_twin(path: Path) -> Path:
    """`path` itself, or of an address a folder in the user's cache, for libraries that need a local file system."""
    if is_local(path):
        return path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "qat" / hashlib.sha256(str(path).encode()).hexdigest()[:24]


def stamp(path: Path) -> Stamp | None:
    """What changes when the file does: its time and its size; None where there is no file."""
    try:
        found: Any = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if hasattr(found, "st_mtime_ns"):
        return found.st_mtime_ns, found.st_size, found.st_ino
    return float(found.mtime), int(found.length)  # as `etils.epath` tells it of other stores


def write_atomically(path: Path, content: str | bytes) -> None:
    """Make `path` hold `content`. A process killed at any moment leaves the old file or the new one, never a part.

    An object store does so by itself.
    """
    if not is_local(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        share(temporary)
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def share(temporary: Path) -> None:
    """Give a temporary file, which is its owner's alone, the permissions of any other new file."""
    temporary.chmod(0o666 & ~UMASK)


def refusal(error: BaseException) -> str | None:
    """What to tell the user where `error` means that the disk is full or a file out of reach, else None.

    Libraries wrap such errors in their own, so the whole chain of causes is read.
    """
    chain: BaseException | None = error
    while chain is not None:
        if getattr(chain, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(chain):
            return (
                f"No space left on the disk{_where(chain)}. Finished trials are safe: "
                "free some space, then run the same command again."
            )
        if isinstance(chain, OSError) and chain.errno in FORBIDDEN:
            return f"No permission{_where(chain)}: {chain.strerror}. Choose another folder, or change its permissions."
        chain = chain.__cause__ or chain.__context__
    return None


def _where(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f" for {str(name)!r}" if name else ""


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself last through a power cut, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
